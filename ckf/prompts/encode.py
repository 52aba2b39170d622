"""Examples to token ids with typed slots: prompts, and the answers that a model may give.

A rating becomes text in `ckf.tasks.rating.rating_text` and tokens in `PromptEncoder.answer_ids` (the answer) and
`PromptEncoder._history_pieces` (the history). Yes and No become tokens in `PromptEncoder.answer_ids` as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckf.config.schema import CODES, PromptsConfig, SlotKind
from ckf.core.errors import DataError
from ckf.data.example_table import Example
from ckf.prompts.binary_codes import HashedCodes
from ckf.prompts.chat_template import chat_wrapper, plain_wrapper
from ckf.prompts.perturbation import shuffled_order
from ckf.prompts.template import Literal, Part, Placeholder, Slot, parse_template
from ckf.prompts.tokenizer_cache import CachedTokenizer
from ckf.tasks import BUILT_IN, Task
from ckf.tasks.base import Vocabulary
from ckf.tasks.rating import rating_text

SLOT_TOKEN = -1  # marks a slot position in `Prompt.token_ids`; the collators replace it


FoundSlot = tuple[int, SlotKind, int]
"""A slot of a prompt: its first position, its kind, and its item id (0 where the kind has no item)."""


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt without its answer; slot positions hold ``SLOT_TOKEN``.

    ``slots`` are in order of position. ``yes_no_positions`` are the
    positions that predict Yes or No for the candidates of a list, each after the candidate's own question
    mark. Where it is empty, the answer follows the prompt.
    """

    token_ids: list[int]
    slots: list[FoundSlot]
    history_cut: int
    yes_no_positions: tuple[int, ...] = ()

    def without_prefix(self, length: int) -> Prompt:
        """The prompt without its first ``length`` tokens; no slot and no Yes or No may be among them."""
        slots = [(start - length, kind, item) for start, kind, item in self.slots]
        positions = tuple(position - length for position in self.yes_no_positions)
        return Prompt(self.token_ids[length:], slots, self.history_cut, positions)


class PromptEncoder:
    """Renders and tokenises the examples of every task.

    ``titles[i]`` is the title of item ``i`` (index 0 is padding). ``rating_labels`` are the rating scale's
    values as text, lowest first. ``shuffle_seed`` puts every history into a random order, drawn by the
    example's id. ``chat`` puts prompt and answer into the turns of the tokenizer's chat template
    (`ckf.prompts.chat_template`).

    Raises:
        DataError: two answers of a task are the same tokens, or the tokenizer has no token that ends an answer.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompts: PromptsConfig,
        titles: Sequence[str],
        rating_labels: Sequence[str],
        *,
        tokens_per_slot: int = 1,
        max_length_tokens: int = 2048,
        chat: bool = False,
        shuffle_seed: int | None = None,
        tasks: Mapping[str, Task] = BUILT_IN,
    ) -> None:
        self.tokenizer = tokenizer
        self.tasks = tasks
        self.vocabulary = Vocabulary(titles, list(rating_labels))
        self.titles = titles
        self.rating_labels = list(rating_labels)
        self.tokens_per_slot = tokens_per_slot
        self.max_length_tokens = max_length_tokens
        self.shuffle_seed = shuffle_seed
        self.separator = prompts.separator.rstrip(" ")
        self.empty_history = prompts.empty_history
        self._templates = {
            (name, slots): parse_template(prompts.of(task).slots if slots else prompts.of(task).text)
            for name, task in tasks.items()
            for slots in (False, True)
        }
        self._answers = {name: prompts.of(task).answer for name, task in tasks.items()}
        self._answer_lengths: dict[tuple[str, str], int] = {}
        cached = CachedTokenizer(tokenizer)
        self.piece, self.piece_once = cached.piece, cached.piece_once
        wrapper = chat_wrapper(tokenizer) if chat else plain_wrapper(tokenizer)
        self.eos, self.prefix, self.suffix = wrapper.terminator, wrapper.before, self.piece(wrapper.after, control=True)
        self._own_turn = wrapper.own_turn
        for name, task in tasks.items():
            self._check_labels(name, task.fixed_labels(self.vocabulary))
        self.no_yes_tokens = self._no_yes_tokens()

    # --- answers

    def answer_text(self, task: str, label: str) -> str:
        """A label in the wording of the task's answer, e.g. " Yes"."""
        text = self._answers[task].replace("{label}", label)
        return text.lstrip(" ") if self._own_turn else text

    def answer_ids(self, task: str, label: str) -> list[int]:
        """Token ids of an answer with its terminator; without it "Toy Story" would always beat "Toy Story 2"."""
        piece = self.piece_once if self.tasks[task].written else self.piece
        return [*piece(self.answer_text(task, label)), self.eos]

    def _answer_length(self, task: str, label: str) -> int:
        if self.tasks[task].written:
            return len(self.answer_ids(task, label))
        length = self._answer_lengths.get((task, label))
        if length is None:
            length = self._answer_lengths[task, label] = len(self.answer_ids(task, label))
        return length

    def _check_labels(self, task: str, labels: list[str]) -> None:
        seen: dict[tuple[int, ...], str] = {}
        for label in labels:
            other = seen.setdefault(tuple(self.answer_ids(task, label)), label)
            if other != label:
                name = self.tokenizer.name_or_path
                raise DataError(f"tokenizer {name}: the {task} answers '{other}' and '{label}' are the same tokens")

    def _no_yes_tokens(self) -> tuple[int, int]:
        """First tokens of No and Yes, which answer a candidate that has its own question mark.

        Raises:
            DataError: some wording has such candidates, and both answers begin with the same token.
        """
        asked = next((task.each_candidate for task in self.tasks.values() if task.each_candidate), None)
        if asked is None:
            return SLOT_TOKEN, SLOT_TOKEN
        no, yes = (self.answer_ids(asked[0], label)[0] for label in asked[1])
        parts = [part for parts in self._templates.values() for part in parts]
        pointwise = any(isinstance(part, Placeholder) and part.pointwise for part in parts)
        if pointwise and no == yes:
            raise DataError(
                f"tokenizer {self.tokenizer.name_or_path}: Yes and No begin with the same token, so candidates "
                "cannot be asked one by one; use a wording without {candidates?}, e.g. prompts=slots_late"
            )
        return no, yes

    def labels(self, example: Example) -> list[str]:
        """All possible answers of an example, in the order in which they are scored."""
        return self.tasks[example.task].labels(example, self.vocabulary)

    def true_label(self, example: Example) -> str:
        """The right answer of an example.

        Raises:
            DataError: none of the answers is right, e.g. a rating that is not on the dataset's scale.
        """
        return self.tasks[example.task].true_label(example, self.vocabulary)

    # --- prompts

    def begins_with_history(self, task: str, *, slots: bool) -> bool:
        """Whether a task's wording has the history before anything that differs between a user's rows."""
        for part in self._templates[task, slots]:
            if not isinstance(part, Literal):
                return isinstance(part, Placeholder) and part.name == "history"
        return False

    def encode(self, example: Example, *, slots: bool, codes: HashedCodes | None = None) -> Prompt:
        """Encode one example's prompt; ``codes`` fills {user_code} and {item_code} where the wording has them.

        A prompt that is too long loses its oldest history first. Target, candidates and answer are never cut.

        Raises:
            DataError: the prompt does not fit ``max_length_tokens`` even without history.
        """
        budget = self.max_length_tokens - max(self._answer_length(example.task, x) for x in self.labels(example))
        history = self._history_pieces(example)
        cut = 0
        prompt = self._assemble(example, slots, history, codes, 0)
        if len(prompt.token_ids) > budget:
            excess = len(prompt.token_ids) - budget
            while excess > 0 and cut < len(history):
                excess -= len(history[cut]) + len(self.piece(self.separator, control=True))
                cut += 1
            prompt = self._assemble(example, slots, history[cut:], codes, cut)
        if (length := len(prompt.token_ids)) > budget:
            raise DataError(
                f"{example.example_id}: the prompt has {length} tokens without its history, {budget} fit; "
                "raise train.max_length_tokens"
            )
        return prompt

    def _history_pieces(self, example: Example) -> list[list[int]]:
        if self.tasks[example.task].history_ratings:
            rated = zip(example.history, example.history_ratings, strict=True)
            pieces = [self.piece(f" {self.titles[item]} ({rating_text(rating)})") for item, rating in rated]
        else:
            pieces = [self.piece(f" {self.titles[item]}") for item in example.history]
        if self.shuffle_seed is None:
            return pieces
        return [pieces[position] for position in shuffled_order(example.example_id, len(pieces), self.shuffle_seed)]

    def _assemble(
        self, example: Example, slots: bool, history: list[list[int]], codes: HashedCodes | None, cut: int
    ) -> Prompt:
        ids = list(self.prefix)
        found: list[FoundSlot] = []
        yes_no_positions: list[int] = []
        for part in self._templates[example.task, slots]:
            if isinstance(part, Placeholder) and part.name in CODES:
                if codes is None:
                    raise ValueError(f"the wording of {example.task} has {{{part.name}}}, but there are no codes")
                self._append_code(part, example, codes, ids)
            elif isinstance(part, Placeholder) and part.name == "candidates":
                self._append_candidates(part, example, ids, found, yes_no_positions)
            else:
                self._append(part, example, history, ids, found)
        return Prompt([*ids, *self.suffix], found, cut, tuple(yes_no_positions))

    def _append(
        self,
        part: Part,
        example: Example,
        history: list[list[int]],
        ids: list[int],
        found: list[FoundSlot],
    ) -> None:
        match part:
            case Literal(text):
                ids.extend(self.piece(text, control=True))
            case Slot("user" | "soft" as kind):
                self._add_slot(kind, 0, ids, found)
            case Slot(kind):
                for item in example.targets:
                    self._add_slot(kind, item, ids, found)
            case Placeholder("history", lead):
                if history:
                    self._join(history, ids)
                else:
                    ids.extend(self.piece(lead + self.empty_history, control=True))
            case Placeholder("rating", lead):
                ids.extend(self.piece(lead + rating_text(example.label)))
            case Placeholder("review", lead):
                ids.extend(self.piece_once(lead + (example.review or "")))
            case Placeholder(_, lead):
                ids.extend(self.piece(lead + self.titles[example.item]))

    def _append_candidates(
        self,
        part: Placeholder,
        example: Example,
        ids: list[int],
        found: list[FoundSlot],
        yes_no_positions: list[int],
    ) -> None:
        for number, item in enumerate(example.targets):
            ids.extend(self.piece(self.separator, control=True) if number else [])
            for kind in part.before:
                self._add_slot(kind, item, ids, found)
            ids.extend(self.piece(part.lead + self.titles[item]))
            for kind in part.after:
                self._add_slot(kind, item, ids, found)
            if part.pointwise:
                ids.extend(self.piece("?"))
                yes_no_positions.append(len(ids) - 1)

    def _append_code(self, part: Placeholder, example: Example, codes: HashedCodes, ids: list[int]) -> None:
        if part.name == "user_code":
            ids.extend(self.piece_once(part.lead + codes.user(example.user)))
        else:
            self._join([self.piece_once(part.lead + codes.item(item)) for item in example.targets], ids)

    def _join(self, pieces: list[list[int]], ids: list[int]) -> None:
        separator = self.piece(self.separator, control=True)
        for number, piece in enumerate(pieces):
            if number:
                ids.extend(separator)
            ids.extend(piece)

    def _add_slot(self, kind: SlotKind, item: int, ids: list[int], found: list[FoundSlot]) -> None:
        found.append((len(ids), kind, item if kind in ("item", "pair") else 0))
        ids.extend([SLOT_TOKEN] * self.tokens_per_slot)
