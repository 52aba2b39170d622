"""Examples to token ids with typed slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ckf.config.schema import CODES, TASKS, WRITTEN, PromptsConfig
from ckf.core.errors import DataError
from ckf.data.example_table import Example
from ckf.prompts.binary_codes import HashedCodes
from ckf.prompts.chat_template import chat_frame, plain_frame
from ckf.prompts.perturbation import shuffled_places
from ckf.prompts.template import Literal, Part, Placeholder, Slot, parse_template, wording_of
from ckf.prompts.tokenizer_cache import Pieces

SLOT_TOKEN = -1  # stands for a slot position in `Prompt.token_ids` until the collator replaces it


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt without its answer; slot positions hold ``SLOT_TOKEN``.

    ``slots`` lists, in order of position, ``(first position, kind, item id or 0)``. ``asked`` are the
    positions at which the candidates of a list are answered one by one, Yes or No, each after its own
    question mark; where it is empty, the answer follows the prompt.
    """

    token_ids: list[int]
    slots: list[tuple[int, str, int]]
    history_cut: int
    asked: tuple[int, ...] = ()

    def after(self, length: int) -> Prompt:
        """What comes after the first ``length`` tokens, none of them a slot or asked."""
        slots = [(start - length, kind, item) for start, kind, item in self.slots]
        return Prompt(self.token_ids[length:], slots, self.history_cut, tuple(p - length for p in self.asked))


class PromptEncoder:
    """Renders and tokenises the examples of every task.

    ``titles[i]`` is the title of item ``i`` (index 0 is padding). ``rating_labels`` are the scale's
    values as text, lowest first. ``slots`` chooses the prompt with slots over the text-only one per call.
    With ``shuffle_seed`` every history is in a random order, drawn by the example's id.
    ``chat`` puts prompt and answer into the turns of the tokenizer's chat template (`ckf.prompts.chat_template`).
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
    ) -> None:
        self.tokenizer = tokenizer
        self.titles = titles
        self.rating_labels = list(rating_labels)
        self.tokens_per_slot = tokens_per_slot
        self.max_length_tokens = max_length_tokens
        self.shuffle_seed = shuffle_seed
        self.separator = prompts.separator.rstrip(" ")
        self.empty_history = prompts.empty_history
        self._templates = {
            (task, slots): parse_template(wording.slots if slots else wording.text)
            for task in (*TASKS, *WRITTEN)
            for wording in [wording_of(prompts, task)]
            for slots in (False, True)
        }
        self._answers = {task: wording_of(prompts, task).answer for task in (*TASKS, *WRITTEN)}
        self._answer_lengths: dict[tuple[str, str], int] = {}
        pieces = Pieces(tokenizer)
        self.piece, self.piece_once = pieces.kept, pieces.once
        frame = chat_frame(tokenizer) if chat else plain_frame(tokenizer)
        self.eos, self.prefix, self.suffix = frame.terminator, frame.before, self.piece(frame.after, control=True)
        self._turn = frame.turn
        self._check_labels("ctr", ["No", "Yes"])
        self._check_labels("rating", self.rating_labels)
        self.verdicts = self._verdicts()

    # --- answers

    def answer_text(self, task: str, label: str) -> str:
        """Word a label as the task's answer, e.g. " Yes"."""
        text = self._answers[task].replace("{label}", label)
        return text.lstrip(" ") if self._turn else text

    def answer_ids(self, task: str, label: str) -> list[int]:
        """Token ids of an answer with its terminator, without which "Toy Story" would beat "Toy Story 2"."""
        piece = self.piece_once if task in WRITTEN else self.piece
        return [*piece(self.answer_text(task, label)), self.eos]

    def _answer_length(self, task: str, label: str) -> int:
        if task in WRITTEN:
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

    def _verdicts(self) -> tuple[int, int]:
        """First tokens of No and Yes, by which a candidate that is asked by itself is answered.

        Raises:
            DataError: some wording asks one by one, and both answers begin alike.
        """
        no, yes = (self.answer_ids("ctr", label)[0] for label in ("No", "Yes"))
        asks = any(isinstance(part, Placeholder) and part.asked for parts in self._templates.values() for part in parts)
        if asks and no == yes:
            raise DataError(
                f"tokenizer {self.tokenizer.name_or_path}: Yes and No begin with the same token, so candidates "
                "cannot be asked one by one; use a wording without {candidates?}, e.g. prompts=slots_late"
            )
        return no, yes

    def labels(self, example: Example) -> list[str]:
        """All possible answers of an example, in the order in which they are scored."""
        if example.task == "ctr":
            return ["No", "Yes"]
        if example.task == "topk":
            return [self.titles[item] for item in example.candidates]
        return [example.review or ""] if example.task in WRITTEN else self.rating_labels

    def true_label(self, example: Example) -> str:
        """The right answer of an example.

        Raises:
            DataError: a rating that is not on the dataset's scale.
        """
        if example.task == "ctr":
            return "Yes" if example.label > 0 else "No"
        if example.task == "topk":
            return self.titles[example.item]
        if example.task in WRITTEN:
            return example.review or ""
        label = f"{example.label:g}"
        if label not in self.rating_labels:
            raise DataError(f"{example.example_id}: rating {label} is not on the scale {', '.join(self.rating_labels)}")
        return label

    # --- prompts

    def begins_with_history(self, task: str, *, slots: bool) -> bool:
        """Whether a task's wording says the history before anything that differs between a user's rows."""
        for part in self._templates[task, slots]:
            if not isinstance(part, Literal):
                return isinstance(part, Placeholder) and part.name == "history"
        return False

    def encode(self, example: Example, *, slots: bool, codes: HashedCodes | None = None) -> Prompt:
        """Encode one example's prompt; ``codes`` fills {user_code} and {item_code} where the wording has them.

        When it is too long the oldest history goes first; target, candidates and answer are never
        cut, so a prompt that is too long without any history is refused.

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
        if example.task == "rating":
            rated = zip(example.history, example.history_ratings, strict=True)
            pieces = [self.piece(f" {self.titles[item]} ({rating:g})") for item, rating in rated]
        else:
            pieces = [self.piece(f" {self.titles[item]}") for item in example.history]
        if self.shuffle_seed is None:
            return pieces
        return [pieces[place] for place in shuffled_places(example.example_id, len(pieces), self.shuffle_seed)]

    def _assemble(
        self, example: Example, slots: bool, history: list[list[int]], codes: HashedCodes | None, cut: int
    ) -> Prompt:
        ids = list(self.prefix)
        found: list[tuple[int, str, int]] = []
        asked: list[int] = []
        for part in self._templates[example.task, slots]:
            if isinstance(part, Placeholder) and part.name in CODES:
                if codes is None:
                    raise ValueError(f"the wording of {example.task} has {{{part.name}}}, but there are no codes")
                self._append_code(part, example, codes, ids)
            elif isinstance(part, Placeholder) and part.name == "candidates":
                self._append_candidates(part, example, ids, found, asked)
            else:
                self._append(part, example, history, ids, found)
        return Prompt([*ids, *self.suffix], found, cut, tuple(asked))

    def _append(
        self, part: Part, example: Example, history: list[list[int]], ids: list[int], found: list[tuple[int, str, int]]
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
                ids.extend(self.piece(f"{lead}{example.label:g}"))
            case Placeholder("review", lead):
                ids.extend(self.piece_once(lead + (example.review or "")))
            case Placeholder(_, lead):
                ids.extend(self.piece(lead + self.titles[example.item]))

    def _append_candidates(
        self, part: Placeholder, example: Example, ids: list[int], found: list[tuple[int, str, int]], asked: list[int]
    ) -> None:
        for number, item in enumerate(example.targets):
            ids.extend(self.piece(self.separator, control=True) if number else [])
            for kind in part.before:
                self._add_slot(kind, item, ids, found)
            ids.extend(self.piece(part.lead + self.titles[item]))
            for kind in part.after:
                self._add_slot(kind, item, ids, found)
            if part.asked:
                ids.extend(self.piece("?"))
                asked.append(len(ids) - 1)

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

    def _add_slot(self, kind: str, item: int, ids: list[int], found: list[tuple[int, str, int]]) -> None:
        found.append((len(ids), kind, item if kind in ("item", "pair") else 0))
        ids.extend([SLOT_TOKEN] * self.tokens_per_slot)
