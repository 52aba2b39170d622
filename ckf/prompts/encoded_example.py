"""One encoded example of a training batch: its prompts, its answer, and the prefix that its prompts share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ckf.data.example_table import Example
from ckf.prompts.encode import Prompt


@dataclass(frozen=True)
class EncodedExample:
    """One encoded example of a training batch; ``weight`` is the loss weight of each token of its answer."""

    example: Example
    weight: float
    prompts: dict[bool, Prompt]  # by "has slots"
    answer: list[int]

    @cached_property
    def shared_tokens(self) -> int:
        """Number of tokens that the text and the slot prompt begin with.

        At least the token that predicts the answer, and every Yes or No, comes after them.
        """
        text, fused = self.prompts[False].token_ids, self.prompts[True].token_ids
        most = min(len(text), len(fused) - 1, *self.prompts[True].yes_no_positions)
        pairs = zip(text[:most], fused[:most], strict=True)
        return next((place for place, (a, b) in enumerate(pairs) if a != b), most)

    def length(self, slots: bool) -> int:
        """Tokens of a forward pass over one kind of prompt, its answer included."""
        return len(self.sequence(self.prompts[slots]))

    def sequence(self, prompt: Prompt) -> list[int]:
        """A prompt and its answer's tokens but the last; a prompt with Yes or No positions needs no answer."""
        return prompt.token_ids if prompt.yes_no_positions else [*prompt.token_ids, *self.answer[:-1]]
