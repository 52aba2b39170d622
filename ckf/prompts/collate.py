"""Examples to batches of prompts (`ckf.prompts.batch`): encoded, padded, with the CF vectors of their slots.

Three collators share one `PromptGatherer`: `TrainingCollator` (prompts with their right answer),
`ScoringCollator` (prompts with every possible answer) and `GenerationCollator` (prompts alone).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ckf.cf.vectors.tables import VectorTables
from ckf.config.schema import SLOTS
from ckf.core.errors import DataError
from ckf.data.example_table import Example
from ckf.prompts.batch import PromptBatch, SlotBatch
from ckf.prompts.binary_codes import HashedCodes
from ckf.prompts.encode import SLOT_TOKEN, Prompt, PromptEncoder
from ckf.prompts.encoded_example import EncodedExample


class PromptGatherer:
    """Encodes the prompts of examples and gathers the CF vectors of their slots.

    ``tables`` is None where no CF vector is read; ``codes`` writes vectors as text where the prompts ask for it.
    """

    def __init__(
        self, encoder: PromptEncoder, tasks: Sequence[str], tables: VectorTables | None, codes: HashedCodes | None
    ) -> None:
        self.encoder, self.tasks, self.tables, self.codes = encoder, list(tasks), tables, codes

    def prompts(self, examples: list[Example], *, slots: bool) -> list[Prompt]:
        """The encoded prompts of some examples, with slots or as text."""
        return [self.encoder.encode(example, slots=slots, codes=self.codes) for example in examples]

    def task_index(self, examples: list[Example]) -> Tensor:
        """Index [B] of each example's task among the run's."""
        return torch.tensor([self.tasks.index(example.task) for example in examples])

    def slots(self, examples: list[Example], prompts: list[Prompt]) -> SlotBatch | None:
        """Positions and vectors of the prompts' slots; None where there is no slot."""
        found = [(kind, row, start, item) for row, p in enumerate(prompts) for start, kind, item in p.slots]
        if not found:  # a text prompt, or binary codes: they are text
            return None
        by_kind = {kind: [(row, start, item) for k, row, start, item in found if k == kind] for kind in SLOTS}
        starts = np.asarray([(row, start) for kind in SLOTS for row, start, _ in by_kind[kind]], dtype=np.int64)
        width = self.encoder.tokens_per_slot
        longest = max((len(example.history) for example in examples), default=0)
        history = np.zeros((len(examples), max(1, longest)), dtype=np.int64)
        for row, example in enumerate(examples):
            history[row, : len(example.history)] = example.history
        folds = self.tables.folds_of([example.example_id for example in examples]) if self.tables is not None else None
        rows = {kind: torch.tensor([row for row, _, _ in by_kind[kind]], dtype=torch.long) for kind in SLOTS}
        items = {kind: torch.tensor([item for _, _, item in by_kind[kind]], dtype=torch.long) for kind in SLOTS}
        return SlotBatch(
            kinds=tuple(kind for kind in SLOTS if by_kind[kind]),
            rows=torch.from_numpy(np.repeat(starts[:, 0], width)),
            positions=torch.from_numpy((starts[:, 1:] + np.arange(width)).reshape(-1)),
            user_rows=rows["user"],
            item_rows=rows["item"],
            pair_rows=rows["pair"],
            soft_tasks=self.task_index(examples)[rows["soft"]],
            users=self._users(examples, folds),
            items=self._items(items["item"], folds, rows["item"]),
            pair_items=self._items(items["pair"], folds, rows["pair"]),
            history=self._items(torch.from_numpy(history), folds, torch.arange(len(examples))[:, None]),
            history_mask=torch.from_numpy(history > 0),
        )

    def _users(self, examples: list[Example], folds: Tensor | None) -> Tensor:
        """User vectors [B, d]: the example's own where the CF model reads histories; d = 0 without tables."""
        if self.tables is None:
            return torch.zeros(len(examples), 0)
        if self.tables.example_users is not None:
            return self.tables.example_users.of([example.example_id for example in examples])
        return self.tables.gather("user", torch.tensor([example.user for example in examples]), folds)

    def _items(self, ids: Tensor, folds: Tensor | None, rows: Tensor) -> Tensor:
        """Item vectors [..., d] from the table of each batch row's fold; d = 0 without tables."""
        if self.tables is None:
            return torch.zeros(*ids.shape, 0)
        return self.tables.gather("item", ids, None if folds is None else folds[rows].expand_as(ids))


class TrainingCollator:
    """Prompts followed by their right answer.

    A list whose candidates are answered one by one holds its answers itself: Yes after the target, No after
    the others. They share the weight that the answer's tokens would have had.
    """

    def __init__(self, gatherer: PromptGatherer) -> None:
        self.gatherer, self.encoder = gatherer, gatherer.encoder

    def __call__(self, examples: list[Example], weights: Sequence[float], *, slots: bool) -> PromptBatch:
        """One batch; ``weights[b]`` is the loss weight of each answer token of row b."""
        return self.batch(self.encode(examples, weights, (slots,)), slots=slots)

    def shared_prefix(self, examples: list[Example], weights: Sequence[float]) -> tuple[PromptBatch, PromptBatch]:
        """Text prompts, and the slot prompts' continuations of them in the same order."""
        rows = self.encode(examples, weights, (False, True))
        return self.batch(rows, slots=False), self.continuation(rows)

    def encode(self, examples: list[Example], weights: Sequence[float], kinds: Iterable[bool]) -> list[EncodedExample]:
        """Encode examples as the kinds of prompts asked for (True: with slots)."""
        answers = [self.encoder.answer_ids(x.task, self.encoder.true_label(x)) for x in examples]
        prompts = {slots: self.gatherer.prompts(examples, slots=slots) for slots in kinds}
        return [
            EncodedExample(
                example, weights[row], {slots: of_kind[row] for slots, of_kind in prompts.items()}, answers[row]
            )
            for row, example in enumerate(examples)
        ]

    def batch(self, rows: list[EncodedExample], *, slots: bool) -> PromptBatch:
        """The whole prompts of one kind."""
        return self._collate(rows, [row.prompts[slots] for row in rows])

    def continuation(self, rows: list[EncodedExample], text_rows: Sequence[int] | None = None) -> PromptBatch:
        """The slot prompts without the prefix that each shares with its text prompt.

        ``text_rows`` names each row's text prompt where the text prompts are in another order.
        """
        prefix = [row.shared_tokens for row in rows]
        prompts = [row.prompts[True].without_prefix(length) for row, length in zip(rows, prefix, strict=True)]
        batch = self._collate(rows, prompts)
        batch.prefix_lengths = torch.tensor(prefix)
        batch.prefix_rows = None if text_rows is None else torch.tensor(text_rows)
        batch.position_ids = batch.prefix_lengths[:, None] + torch.arange(batch.input_ids.shape[1])
        return batch

    def _collate(self, rows: list[EncodedExample], prompts: list[Prompt]) -> PromptBatch:
        examples = [row.example for row in rows]
        answers = [self._answer(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
        counts = [len(positions) for positions, _ in answers]
        row_of_token = torch.arange(len(rows)).repeat_interleave(torch.tensor(counts))
        weights = [row.weight * len(row.answer) / count for row, count in zip(rows, counts, strict=True)]
        return PromptBatch(
            input_ids=_padded([row.sequence(prompt) for row, prompt in zip(rows, prompts, strict=True)], 0),
            task_index=self.gatherer.task_index(examples),
            answer_rows=row_of_token,
            answer_positions=torch.tensor([position for positions, _ in answers for position in positions]),
            answer_targets=torch.tensor([token for _, tokens in answers for token in tokens]),
            answer_weights=torch.tensor(weights, dtype=torch.float32)[row_of_token],
            answer_index=row_of_token,
            slots=self.gatherer.slots(examples, prompts),
            history_cut=sum(p.history_cut > 0 for p in prompts),
            example_ids=[example.example_id for example in examples],
        )

    def _answer(self, row: EncodedExample, prompt: Prompt) -> tuple[Sequence[int], list[int]]:
        """The tokens of the right answer, and the positions that predict them."""
        if prompt.yes_no_positions:
            liked = [number == row.example.position for number in range(len(prompt.yes_no_positions))]
            return prompt.yes_no_positions, [self.encoder.no_yes_tokens[yes] for yes in liked]
        first = len(prompt.token_ids) - 1
        return range(first, first + len(row.answer)), row.answer


class ScoringCollator:
    """Prompts with every possible answer of each as a branch."""

    def __init__(self, gatherer: PromptGatherer) -> None:
        self.gatherer, self.encoder = gatherer, gatherer.encoder

    def __call__(self, examples: list[Example], *, slots: bool) -> tuple[PromptBatch, list[int]]:
        """One batch, and the number of answers of each example.

        A branch attends to the prompt and to itself, and its positions start after the prompt. One forward
        pass therefore scores all answers of a row as if each were alone. Candidates that are answered one by
        one need no branch: the score of each is that of Yes at its own question mark.
        """
        prompts = self.gatherer.prompts(examples, slots=slots)
        return self.after_prefix(examples, prompts, [0] * len(prompts))

    def prefixes(self, examples: list[Example], prompts: list[Prompt], lengths: Sequence[int]) -> PromptBatch:
        """The first ``lengths[b]`` tokens of each prompt, none of them a slot, without an answer."""
        return _without_answers(self.gatherer, examples, prompts, lengths)

    def after_prefix(
        self, examples: list[Example], prompts: list[Prompt], lengths: Sequence[int]
    ) -> tuple[PromptBatch, list[int]]:
        """Prompts without their first ``lengths[b]`` tokens, with their answers; the rest as in `__call__`."""
        prompts = [prompt.without_prefix(length) for prompt, length in zip(prompts, lengths, strict=True)]
        sequences, position_ids, branch_ids = [], [], []
        rows: list[int] = []
        positions: list[int] = []
        logit_index: list[int] = []
        targets: list[int] = []
        answer_index: list[int] = []
        counts: list[int] = []
        for row, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
            length, start = len(prompt.token_ids), lengths[row]
            ids, branch = list(prompt.token_ids), [0] * length
            position = list(range(start, start + length))
            labels = self.encoder.labels(example)
            if prompt.yes_no_positions:
                logit_index.extend(range(len(rows), len(rows) + len(labels)))
                rows.extend([row] * len(labels))
                positions.extend(prompt.yes_no_positions)
                targets.extend([self.encoder.no_yes_tokens[1]] * len(labels))
                answer_index.extend(range(sum(counts), sum(counts) + len(labels)))
            else:
                last = len(rows)  # the prompt's last position, at which the first token of every answer is predicted
                rows.append(row)
                positions.append(length - 1)
            for number, label in enumerate(() if prompt.yes_no_positions else labels, start=1):
                answer = self.encoder.answer_ids(example.task, label)
                logit_index.extend([last, *range(len(rows), len(rows) + len(answer) - 1)])
                rows.extend([row] * (len(answer) - 1))
                positions.extend(range(len(ids), len(ids) + len(answer) - 1))
                targets.extend(answer)
                answer_index.extend([sum(counts) + number - 1] * len(answer))
                ids.extend(answer[:-1])
                position.extend(range(start + length, start + length + len(answer) - 1))
                branch.extend([number] * (len(answer) - 1))
            counts.append(len(labels))
            sequences.append(ids)
            position_ids.append(position)
            branch_ids.append(branch)
        batch = PromptBatch(
            input_ids=_padded(sequences, 0),
            task_index=self.gatherer.task_index(examples),
            answer_rows=torch.tensor(rows),
            answer_positions=torch.tensor(positions),
            answer_targets=torch.tensor(targets),
            answer_weights=torch.ones(len(targets)),
            answer_index=torch.tensor(answer_index),
            position_ids=_padded(position_ids, 0),
            branch_id=_padded(branch_ids, -1),
            logit_index=torch.tensor(logit_index),
            slots=self.gatherer.slots(examples, prompts),
            history_cut=sum(p.history_cut > 0 for p in prompts),
        )
        return batch, counts


class GenerationCollator:
    """Whole prompts without an answer, to generate from."""

    def __init__(self, gatherer: PromptGatherer) -> None:
        self.gatherer = gatherer

    def __call__(self, examples: list[Example], *, slots: bool) -> tuple[PromptBatch, Tensor]:
        """One batch, and the prompts' lengths [B] in tokens.

        Raises:
            DataError: a list whose candidates are answered one by one: nothing follows it.
        """
        prompts = self.gatherer.prompts(examples, slots=slots)
        if any(prompt.yes_no_positions for prompt in prompts):
            raise DataError("the topk wording asks its candidates one by one, so no title follows it; score it instead")
        lengths = [len(prompt.token_ids) for prompt in prompts]
        batch = _without_answers(self.gatherer, examples, prompts, lengths)
        batch.slots = self.gatherer.slots(examples, prompts)
        batch.history_cut = sum(prompt.history_cut > 0 for prompt in prompts)
        return batch, torch.tensor(lengths)


class Collators:
    """The three collators of a run (``training``, ``scoring``, ``generation``) over one encoder and its CF vectors."""

    def __init__(
        self,
        encoder: PromptEncoder,
        tasks: Sequence[str],
        tables: VectorTables | None,
        codes: HashedCodes | None = None,
    ) -> None:
        self.encoder, self.tasks, self.tables, self.codes = encoder, list(tasks), tables, codes
        gatherer = PromptGatherer(encoder, tasks, tables, codes)
        self.prompts = gatherer.prompts
        self.training = TrainingCollator(gatherer)
        self.scoring = ScoringCollator(gatherer)
        self.generation = GenerationCollator(gatherer)

    def with_tables(self, tables: VectorTables) -> Collators:
        """The same prompts with other vectors (and their codes)."""
        return Collators(self.encoder, self.tasks, tables, self.codes.of(tables) if self.codes else None)


def _without_answers(
    gatherer: PromptGatherer, examples: list[Example], prompts: list[Prompt], lengths: Sequence[int]
) -> PromptBatch:
    ids = [prompt.token_ids[:length] for prompt, length in zip(prompts, lengths, strict=True)]
    none = torch.empty(0, dtype=torch.long)
    return PromptBatch(_padded(ids, 0), gatherer.task_index(examples), none, none, none, torch.empty(0), none)


def _padded(sequences: list[list[int]], value: int) -> Tensor:
    """Stack to [B, T], padded on the right; slot markers become token 0, whose embedding is overwritten."""
    out = np.full((len(sequences), max(len(s) for s in sequences)), value, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        out[row, : len(sequence)] = sequence
    if value == 0:
        out[out == SLOT_TOKEN] = 0
    return torch.from_numpy(out)
