"""Examples to batches of prompts (`ckf.prompts.batch`): encoded, padded, with the CF vectors of their slots."""

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


class Collator:
    """Builds `PromptBatch`es from examples.

    ``tables`` is None where no CF vector is read; ``codes`` writes them as text where the prompts ask for it.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        tasks: Sequence[str],
        tables: VectorTables | None,
        codes: HashedCodes | None = None,
    ) -> None:
        self.encoder = encoder
        self.tasks = list(tasks)
        self.tables = tables
        self.codes = codes

    def with_tables(self, tables: VectorTables) -> Collator:
        """The same prompts with other vectors (and their codes)."""
        return Collator(self.encoder, self.tasks, tables, self.codes.of(tables) if self.codes else None)

    def rows(self, examples: list[Example], weights: Sequence[float], kinds: Iterable[bool]) -> list[EncodedExample]:
        """Encode examples for training, as the kinds of prompts asked for (True: with slots)."""
        answers = [self.encoder.answer_ids(x.task, self.encoder.true_label(x)) for x in examples]
        prompts = {slots: self.prompts(examples, slots=slots) for slots in kinds}
        return [
            EncodedExample(
                example, weights[row], {slots: of_kind[row] for slots, of_kind in prompts.items()}, answers[row]
            )
            for row, example in enumerate(examples)
        ]

    def training(self, examples: list[Example], weights: Sequence[float], *, slots: bool) -> PromptBatch:
        """Prompts followed by their right answers; ``weights[b]`` is the loss weight of each answer token of row b.

        A list whose candidates are asked one by one has its answers inside: Yes after the target, No after
        the others. They share the weight that the answer's tokens would have had.
        """
        return self.whole(self.rows(examples, weights, (slots,)), slots=slots)

    def sharing(self, examples: list[Example], weights: Sequence[float]) -> tuple[PromptBatch, PromptBatch]:
        """Text prompts, and the branches of the slot prompts in the same order."""
        rows = self.rows(examples, weights, (False, True))
        return self.whole(rows, slots=False), self.branch(rows)

    def whole(self, rows: list[EncodedExample], *, slots: bool) -> PromptBatch:
        """The rows' prompts of one kind, each followed by its right answer."""
        return self._training(rows, [row.prompts[slots] for row in rows])

    def branch(self, rows: list[EncodedExample], text_rows: Sequence[int] | None = None) -> PromptBatch:
        """Of the rows' slot prompts what comes after the beginning that each shares with its text, with its answer.

        ``text_rows`` says which rows of the text prompts theirs are, where they are in another order.
        """
        prefix = [row.shared for row in rows]
        branch = self._training(rows, [row.prompts[True].after(skip) for row, skip in zip(rows, prefix, strict=True)])
        branch.prefix = torch.tensor(prefix)
        branch.prefix_rows = None if text_rows is None else torch.tensor(text_rows)
        branch.position_ids = branch.prefix[:, None] + torch.arange(branch.input_ids.shape[1])
        return branch

    def prompts(self, examples: list[Example], *, slots: bool) -> list[Prompt]:
        """The encoded prompts of some examples."""
        return [self.encoder.encode(example, slots=slots, codes=self.codes) for example in examples]

    def _training(self, rows: list[EncodedExample], prompts: list[Prompt]) -> PromptBatch:
        examples = [row.example for row in rows]
        read = [self._read(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
        counts = [len(places) for places, _ in read]
        of_row = torch.arange(len(rows)).repeat_interleave(torch.tensor(counts))
        weights = [row.weight * len(row.answer) / count for row, count in zip(rows, counts, strict=True)]
        return PromptBatch(
            input_ids=_padded([row.sequence(prompt) for row, prompt in zip(rows, prompts, strict=True)], 0),
            task_index=self._task_index(examples),
            answer_rows=of_row,
            answer_cols=torch.tensor([place for places, _ in read for place in places]),
            answer_targets=torch.tensor([token for _, tokens in read for token in tokens]),
            answer_weights=torch.tensor(weights, dtype=torch.float32)[of_row],
            answer_branch=of_row,
            slots=self._slots(examples, prompts),
            history_cut=sum(p.history_cut > 0 for p in prompts),
            example_ids=[example.example_id for example in examples],
        )

    def _read(self, row: EncodedExample, prompt: Prompt) -> tuple[Sequence[int], list[int]]:
        """Places whose next token is scored, and those tokens: the answer's, or a verdict on each candidate."""
        if prompt.asked:
            verdicts = [number == row.example.position for number in range(len(prompt.asked))]
            return prompt.asked, [self.encoder.verdicts[verdict] for verdict in verdicts]
        first = len(prompt.token_ids) - 1
        return range(first, first + len(row.answer)), row.answer

    def scoring(self, examples: list[Example], *, slots: bool) -> tuple[PromptBatch, list[int]]:
        """Prompts followed by every possible answer as a branch; also the number of answers of each example.

        A branch sees the prompt and itself, never its neighbours, and starts at the position after
        the prompt: one forward pass scores all answers of a row exactly as if each stood alone. Candidates
        that are asked one by one need no branch: the score of each is that of Yes at its own question mark.
        """
        prompts = self.prompts(examples, slots=slots)
        return self.branches(examples, prompts, [0] * len(prompts))

    def branches(
        self, examples: list[Example], whole: list[Prompt], skip: Sequence[int]
    ) -> tuple[PromptBatch, list[int]]:
        """As `scoring`, without the first ``skip[b]`` tokens of each prompt, read before and free of slots."""
        prompts = [prompt.after(length) for prompt, length in zip(whole, skip, strict=True)]
        sequences, positions, branches = [], [], []
        rows: list[int] = []
        cols: list[int] = []
        reads: list[int] = []
        targets: list[int] = []
        owner: list[int] = []
        counts: list[int] = []
        for row, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
            length = len(prompt.token_ids)
            ids, branch = list(prompt.token_ids), [0] * length
            position = list(range(skip[row], skip[row] + length))
            labels = self.encoder.labels(example)
            if prompt.asked:
                reads.extend(range(len(rows), len(rows) + len(labels)))
                rows.extend([row] * len(labels))
                cols.extend(prompt.asked)
                targets.extend([self.encoder.verdicts[1]] * len(labels))
                owner.extend(range(sum(counts), sum(counts) + len(labels)))
            else:
                last = len(rows)  # where the prompt's last position stands among those read: every answer starts there
                rows.append(row)
                cols.append(length - 1)
            for number, label in enumerate(() if prompt.asked else labels, start=1):
                answer = self.encoder.answer_ids(example.task, label)
                reads.extend([last, *range(len(rows), len(rows) + len(answer) - 1)])
                rows.extend([row] * (len(answer) - 1))
                cols.extend(range(len(ids), len(ids) + len(answer) - 1))
                targets.extend(answer)
                owner.extend([sum(counts) + number - 1] * len(answer))
                ids.extend(answer[:-1])
                position.extend(range(skip[row] + length, skip[row] + length + len(answer) - 1))
                branch.extend([number] * (len(answer) - 1))
            counts.append(len(labels))
            sequences.append(ids)
            positions.append(position)
            branches.append(branch)
        batch = PromptBatch(
            input_ids=_padded(sequences, 0),
            task_index=self._task_index(examples),
            answer_rows=torch.tensor(rows),
            answer_cols=torch.tensor(cols),
            answer_targets=torch.tensor(targets),
            answer_weights=torch.ones(len(targets)),
            answer_branch=torch.tensor(owner),
            position_ids=_padded(positions, 0),
            branch_of=_padded(branches, -1),
            answer_read=torch.tensor(reads),
            slots=self._slots(examples, prompts),
            history_cut=sum(p.history_cut > 0 for p in prompts),
        )
        return batch, counts

    def beginnings(self, examples: list[Example], prompts: list[Prompt], lengths: Sequence[int]) -> PromptBatch:
        """The first ``lengths[g]`` tokens of each prompt, of which none is a slot."""
        ids = [prompt.token_ids[:length] for prompt, length in zip(prompts, lengths, strict=True)]
        none = torch.empty(0, dtype=torch.long)
        return PromptBatch(_padded(ids, 0), self._task_index(examples), none, none, none, torch.empty(0), none)

    def questions(self, examples: list[Example], *, slots: bool) -> tuple[PromptBatch, Tensor]:
        """Whole prompts without an answer, for text that is to be written; also their lengths [B].

        Raises:
            DataError: a list whose candidates are asked one by one: nothing follows it.
        """
        prompts = self.prompts(examples, slots=slots)
        if any(prompt.asked for prompt in prompts):
            raise DataError("the topk wording asks its candidates one by one, so no title follows it; score it instead")
        lengths = [len(prompt.token_ids) for prompt in prompts]
        batch = self.beginnings(examples, prompts, lengths)
        batch.slots = self._slots(examples, prompts)
        batch.history_cut = sum(prompt.history_cut > 0 for prompt in prompts)
        return batch, torch.tensor(lengths)

    def _task_index(self, examples: list[Example]) -> Tensor:
        return torch.tensor([self.tasks.index(example.task) for example in examples])

    def _slots(self, examples: list[Example], prompts: list[Prompt]) -> SlotBatch | None:
        found = [(kind, row, start, item) for row, p in enumerate(prompts) for start, kind, item in p.slots]
        if not found:  # a text prompt, or codes: they are text
            return None
        by_kind = {kind: [(row, start, item) for k, row, start, item in found if k == kind] for kind in SLOTS}
        places = [(row, start) for kind in SLOTS for row, start, _ in by_kind[kind]]
        starts, width = np.asarray(places, dtype=np.int64), self.encoder.tokens_per_slot
        longest = max((len(example.history) for example in examples), default=0)
        history = np.zeros((len(examples), max(1, longest)), dtype=np.int64)
        for row, example in enumerate(examples):
            history[row, : len(example.history)] = example.history
        folds = self.tables.folds_of([example.example_id for example in examples]) if self.tables is not None else None
        rows = {kind: torch.tensor([row for row, _, _ in by_kind[kind]], dtype=torch.long) for kind in SLOTS}
        items = {kind: torch.tensor([item for _, _, item in by_kind[kind]], dtype=torch.long) for kind in SLOTS}
        return SlotBatch(
            rows=torch.from_numpy(np.repeat(starts[:, 0], width)),
            cols=torch.from_numpy((starts[:, 1:] + np.arange(width)).reshape(-1)),
            user_rows=rows["user"],
            item_rows=rows["item"],
            pair_rows=rows["pair"],
            soft_tasks=self._task_index(examples)[rows["soft"]],
            users=self._users(examples, folds),
            items=self._items(items["item"], folds, rows["item"]),
            pair_items=self._items(items["pair"], folds, rows["pair"]),
            history=self._items(torch.from_numpy(history), folds, torch.arange(len(examples))[:, None]),
            history_mask=torch.from_numpy(history > 0),
        )

    def _users(self, examples: list[Example], folds: Tensor | None) -> Tensor:
        """User vectors, as of the example where the CF model reads histories; of width 0 where none is read. [B, d]"""
        if self.tables is None:
            return torch.zeros(len(examples), 0)
        if self.tables.moments is not None:
            return self.tables.moments.of([example.example_id for example in examples])
        return self.tables.gather("user", torch.tensor([example.user for example in examples]), folds)

    def _items(self, ids: Tensor, folds: Tensor | None, rows: Tensor) -> Tensor:
        """Item vectors, each as the fold of its batch row has it; of width 0 where no CF vector is read."""
        if self.tables is None:
            return torch.zeros(*ids.shape, 0)
        return self.tables.gather("item", ids, None if folds is None else folds[rows].expand_as(ids))


def _padded(sequences: list[list[int]], value: int) -> Tensor:
    """Stack to [B, T], padded on the right; slot markers become token 0, whose embedding is overwritten."""
    out = np.full((len(sequences), max(len(s) for s in sequences)), value, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        out[row, : len(sequence)] = sequence
    if value == 0:
        out[out == SLOT_TOKEN] = 0
    return torch.from_numpy(out)
