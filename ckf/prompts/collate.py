"""Batches of prompts: padded ids, slot coordinates, gathered CF vectors, and where logits are needed.

Shapes use B rows, T tokens, S slot tokens, N item slots, P pair slots, H history items, A answer tokens,
d the width of a CF vector. Padding stands on the right, so a causal model never sees it and training
needs no attention mask; scoring lays the possible answers out as branches (`branch_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from ckf.cf.vectors import VectorTables
from ckf.config.schema import SLOTS
from ckf.data.records import Example
from ckf.errors import DataError
from ckf.prompts.codes import HashedCodes
from ckf.prompts.encode import SLOT_TOKEN, Prompt, PromptEncoder
from ckf.prompts.rows import TrainingRow


@dataclass
class SlotBatch:
    """Everything the fusion needs for one batch, and where its output goes.

    ``rows``/``cols`` [S] are the slot tokens in the order of `SLOTS`: user, item, pair, soft slots.
    """

    rows: Tensor
    cols: Tensor
    user_rows: Tensor  # [U] the batch row of each user slot
    item_rows: Tensor  # [N] the batch row of each item slot
    pair_rows: Tensor  # [P] the batch row of each pair slot
    soft_tasks: Tensor  # [F] the task index of each soft slot
    users: Tensor  # [B, d]
    items: Tensor  # [N, d] the item of each item slot
    pair_items: Tensor  # [P, d] the item of each pair slot
    history: Tensor  # [B, H, d]
    history_mask: Tensor  # [B, H] True where there is an item


@dataclass
class PromptBatch:
    """One forward pass. ``answer_*`` [A] name the positions whose next token is scored."""

    input_ids: Tensor  # [B, T]
    task_index: Tensor  # [B]
    answer_rows: Tensor
    answer_cols: Tensor
    answer_targets: Tensor
    answer_weights: Tensor  # the token's share of the loss
    answer_branch: Tensor  # index into the flat list of scored answers
    position_ids: Tensor | None = None  # [B, T], only with branches and prefixes
    branch_of: Tensor | None = None  # [B, T]: 0 prompt, k >= 1 the k-th answer, -1 padding
    prefix: Tensor | None = None  # [B]: the row goes on after so many tokens of the text prompt's row
    slots: SlotBatch | None = None
    history_cut: int = 0
    example_ids: list[str] = field(default_factory=list)  # of training rows

    def to(self, device: torch.device) -> PromptBatch:
        """Move every tensor to ``device``."""
        return _moved(self, device)


def _moved(batch, device):  # type: ignore[no-untyped-def]  # the same dataclass type comes out as goes in
    values = {}
    for f in fields(batch):
        value = getattr(batch, f.name)
        if isinstance(value, Tensor):
            value = value.to(device, non_blocking=True)
        elif isinstance(value, SlotBatch):
            value = _moved(value, device)
        values[f.name] = value
    return type(batch)(**values)


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

    def rows(self, examples: list[Example], weights: Sequence[float], kinds: Iterable[bool]) -> list[TrainingRow]:
        """Encode examples for training, as the kinds of prompts asked for (True: with slots)."""
        answers = [self.encoder.answer_ids(x.task, self.encoder.true_label(x)) for x in examples]
        prompts = {slots: self._prompts(examples, slots=slots) for slots in kinds}
        return [
            TrainingRow(
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
        """Text prompts and the branches of the slot prompts, as `branched` makes them."""
        return self.branched(self.rows(examples, weights, (False, True)))

    def whole(self, rows: list[TrainingRow], *, slots: bool) -> PromptBatch:
        """The rows' prompts of one kind, each followed by its right answer."""
        return self._training(rows, [row.prompts[slots] for row in rows])

    def branched(self, rows: list[TrainingRow]) -> tuple[PromptBatch, PromptBatch]:
        """The text prompts, and of the slot prompts what comes after the beginning that each shares with its text.

        Either is followed by its right answer; the second batch says in ``prefix`` how long the beginning is.
        """
        prefix = [row.shared for row in rows]
        branch = self._training(rows, [row.prompts[True].after(skip) for row, skip in zip(rows, prefix, strict=True)])
        branch.prefix = torch.tensor(prefix)
        branch.position_ids = branch.prefix[:, None] + torch.arange(branch.input_ids.shape[1])
        return self.whole(rows, slots=False), branch

    def _prompts(self, examples: list[Example], *, slots: bool) -> list[Prompt]:
        return [self.encoder.encode(example, slots=slots, codes=self.codes) for example in examples]

    def _training(self, rows: list[TrainingRow], prompts: list[Prompt]) -> PromptBatch:
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

    def _read(self, row: TrainingRow, prompt: Prompt) -> tuple[Sequence[int], list[int]]:
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
        prompts = self._prompts(examples, slots=slots)
        sequences, positions, branches = [], [], []
        rows: list[int] = []
        cols: list[int] = []
        targets: list[int] = []
        owner: list[int] = []
        counts: list[int] = []
        for row, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
            length = len(prompt.token_ids)
            ids, position, branch = list(prompt.token_ids), list(range(length)), [0] * length
            labels = self.encoder.labels(example)
            if prompt.asked:
                rows.extend([row] * len(labels))
                cols.extend(prompt.asked)
                targets.extend([self.encoder.verdicts[1]] * len(labels))
                owner.extend(range(sum(counts), sum(counts) + len(labels)))
            for number, label in enumerate(() if prompt.asked else labels, start=1):
                answer = self.encoder.answer_ids(example.task, label)
                start = len(ids)
                rows.extend([row] * len(answer))
                cols.extend([length - 1, *range(start, start + len(answer) - 1)])
                targets.extend(answer)
                owner.extend([sum(counts) + number - 1] * len(answer))
                ids.extend(answer[:-1])
                position.extend(range(length, length + len(answer) - 1))
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
            answer_weights=torch.ones(len(rows)),
            answer_branch=torch.tensor(owner),
            position_ids=_padded(positions, 0),
            branch_of=_padded(branches, -1),
            slots=self._slots(examples, prompts),
            history_cut=sum(p.history_cut > 0 for p in prompts),
        )
        return batch, counts

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
        rows = {kind: torch.tensor([row for row, _, _ in by_kind[kind]], dtype=torch.long) for kind in SLOTS}
        items = {kind: torch.tensor([item for _, _, item in by_kind[kind]], dtype=torch.long) for kind in SLOTS}
        return SlotBatch(
            rows=torch.from_numpy(np.repeat(starts[:, 0], width)),
            cols=torch.from_numpy((starts[:, 1:] + np.arange(width)).reshape(-1)),
            user_rows=rows["user"],
            item_rows=rows["item"],
            pair_rows=rows["pair"],
            soft_tasks=self._task_index(examples)[rows["soft"]],
            users=self._users(examples),
            items=self._vectors("item", items["item"]),
            pair_items=self._vectors("item", items["pair"]),
            history=self._vectors("item", torch.from_numpy(history)),
            history_mask=torch.from_numpy(history > 0),
        )

    def _users(self, examples: list[Example]) -> Tensor:
        """User vectors, as of the example where the CF model reads histories. [B, d]"""
        if self.tables is not None and self.tables.moments is not None:
            return self.tables.moments.of([example.example_id for example in examples])
        return self._vectors("user", torch.tensor([example.user for example in examples]))

    def _vectors(self, kind: str, ids: Tensor) -> Tensor:
        """Rows of a table; of width 0 where no CF vector is read."""
        if self.tables is None:
            return torch.zeros(*ids.shape, 0)
        table = self.tables.users if kind == "user" else self.tables.items
        if ids.numel() and int(ids.max()) >= len(table):
            raise DataError(
                f"{kind} {int(ids.max())} has no row in the CF vectors (they end at {len(table) - 1}); "
                "they were made for other data"
            )
        return table[ids]


def _padded(sequences: list[list[int]], value: int) -> Tensor:
    """Stack to [B, T], padded on the right; slot markers become token 0, whose embedding is overwritten."""
    out = np.full((len(sequences), max(len(s) for s in sequences)), value, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        out[row, : len(sequence)] = sequence
    if value == 0:
        out[out == SLOT_TOKEN] = 0
    return torch.from_numpy(out)
