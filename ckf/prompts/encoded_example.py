"""One example of a training batch, encoded: its prompts, its answer, and what its prompts have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ckf.data.example_table import Example
from ckf.prompts.encode import Prompt


@dataclass(frozen=True)
class EncodedExample:
    """One encoded example of a training batch; ``weight`` is that of each of its answer's tokens in the loss."""

    example: Example
    weight: float
    prompts: dict[bool, Prompt]  # by "has slots"
    answer: list[int]

    @cached_property
    def shared(self) -> int:
        """Tokens that the text and the slot prompt begin with; what is read of the slot prompt comes after them."""
        text, fused = self.prompts[False].token_ids, self.prompts[True].token_ids
        most = min(len(text), len(fused) - 1, *self.prompts[True].asked)
        pairs = zip(text[:most], fused[:most], strict=True)
        return next((place for place, (a, b) in enumerate(pairs) if a != b), most)

    def length(self, slots: bool) -> int:
        """Tokens that a pass over one kind of prompt takes, the answer's with it."""
        return len(self.sequence(self.prompts[slots]))

    def sequence(self, prompt: Prompt) -> list[int]:
        """A prompt with the answer that is read after it; one whose candidates are asked holds its answers."""
        return prompt.token_ids if prompt.asked else [*prompt.token_ids, *self.answer[:-1]]
