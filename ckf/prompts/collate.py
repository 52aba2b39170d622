"""Batches of prompts: padded ids, slot coordinates, gathered CF vectors, and where logits are needed.

Shapes use B rows, T tokens, S slot tokens, N item slots, P pair slots, H history items, A answer tokens,
d the width of a CF vector. Padding stands on the right, so a causal model never sees it and training
needs no attention mask; scoring lays the possible answers out as branches (`branch_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ckf.cf.vectors import VectorTables
from ckf.config.schema import SLOTS
from ckf.data.records import Example
from ckf.errors import DataError
from ckf.prompts.codes import HashedCodes
from ckf.prompts.encode import SLOT_TOKEN, Prompt, PromptEncoder


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
    """One forward pass. ``answer_*`` [A] name the answer tokens and the positions whose next token they are.

    With ``answer_read`` the rows and columns are the distinct positions [P], and it is each token's among them.
    """

    input_ids: Tensor  # [B, T]
    task_index: Tensor  # [B]
    answer_rows: Tensor
    answer_cols: Tensor
    answer_targets: Tensor
    answer_weights: Tensor  # the token's share of the loss
    answer_branch: Tensor  # index into the flat list of scored answers
    position_ids: Tensor | None = None  # [B, T], only with branches
    branch_of: Tensor | None = None  # [B, T]: 0 prompt, k >= 1 the k-th answer, -1 padding
    answer_read: Tensor | None = None
    slots: SlotBatch | None = None
    history_cut: int = 0

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

    def training(self, examples: list[Example], weights: Sequence[float], *, slots: bool) -> PromptBatch:
        """Prompts followed by their right answers; ``weights[b]`` is the loss weight of each answer token of row b."""
        prompts = [self.encoder.encode(example, slots=slots, codes=self.codes) for example in examples]
        answers = [self.encoder.answer_ids(x.task, self.encoder.true_label(x)) for x in examples]
        sequences = [[*p.token_ids, *answer[:-1]] for p, answer in zip(prompts, answers, strict=True)]
        rows: list[int] = []
        cols: list[int] = []
        targets: list[int] = []
        token_weights: list[float] = []
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            first = len(prompt.token_ids) - 1
            rows.extend([row] * len(answer))
            cols.extend(range(first, first + len(answer)))
            targets.extend(answer)
            token_weights.extend([weights[row]] * len(answer))
        return PromptBatch(
            input_ids=_padded(sequences, 0),
            task_index=self._task_index(examples),
            answer_rows=torch.tensor(rows),
            answer_cols=torch.tensor(cols),
            answer_targets=torch.tensor(targets),
            answer_weights=torch.tensor(token_weights, dtype=torch.float32),
            answer_branch=torch.tensor(rows),
            slots=self._slots(examples, prompts) if slots else None,
            history_cut=sum(p.history_cut > 0 for p in prompts),
        )

    def scoring(self, examples: list[Example], *, slots: bool) -> tuple[PromptBatch, list[int]]:
        """Prompts followed by every possible answer as a branch; also the number of answers of each example.

        A branch sees the prompt and itself, never its neighbours, and starts at the position after
        the prompt: one forward pass scores all answers of a row exactly as if each stood alone.
        """
        prompts = self.prompts(examples, slots=slots)
        return self.branches(examples, prompts, [0] * len(prompts))

    def prompts(self, examples: list[Example], *, slots: bool) -> list[Prompt]:
        """The encoded prompts of some examples."""
        return [self.encoder.encode(example, slots=slots, codes=self.codes) for example in examples]

    def branches(
        self, examples: list[Example], prompts: list[Prompt], skip: Sequence[int]
    ) -> tuple[PromptBatch, list[int]]:
        """As `scoring`, without the first ``skip[b]`` tokens of each prompt, read before and free of slots."""
        sequences, positions, branches = [], [], []
        rows: list[int] = []
        cols: list[int] = []
        reads: list[int] = []
        targets: list[int] = []
        owner: list[int] = []
        counts: list[int] = []
        for row, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
            length, own = len(prompt.token_ids), len(prompt.token_ids) - skip[row]
            ids, position, branch = prompt.token_ids[skip[row] :], list(range(skip[row], length)), [0] * own
            labels = self.encoder.labels(example)
            last = len(rows)  # where the prompt's last position stands among those read: every answer starts there
            rows.append(row)
            cols.append(own - 1)
            for number, label in enumerate(labels, start=1):
                answer = self.encoder.answer_ids(example.task, label)
                reads.extend([last, *range(len(rows), len(rows) + len(answer) - 1)])
                rows.extend([row] * (len(answer) - 1))
                cols.extend(range(len(ids), len(ids) + len(answer) - 1))
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
            answer_weights=torch.ones(len(targets)),
            answer_branch=torch.tensor(owner),
            position_ids=_padded(positions, 0),
            branch_of=_padded(branches, -1),
            answer_read=torch.tensor(reads),
            slots=self._slots(examples, prompts, skip) if any(prompt.slots for prompt in prompts) else None,
            history_cut=sum(p.history_cut > 0 for p in prompts),
        )
        return batch, counts

    def beginnings(self, examples: list[Example], prompts: list[Prompt], lengths: Sequence[int]) -> PromptBatch:
        """The first ``lengths[g]`` tokens of each prompt, of which none is a slot."""
        ids = [prompt.token_ids[:length] for prompt, length in zip(prompts, lengths, strict=True)]
        none = torch.empty(0, dtype=torch.long)
        return PromptBatch(_padded(ids, 0), self._task_index(examples), none, none, none, torch.empty(0), none)

    def questions(self, examples: list[Example], *, slots: bool) -> tuple[PromptBatch, Tensor]:
        """Whole prompts without an answer, for text that is to be written; also their lengths [B]."""
        prompts = self.prompts(examples, slots=slots)
        lengths = [len(prompt.token_ids) for prompt in prompts]
        batch = self.beginnings(examples, prompts, lengths)
        batch.slots = self._slots(examples, prompts) if slots else None
        batch.history_cut = sum(prompt.history_cut > 0 for prompt in prompts)
        return batch, torch.tensor(lengths)

    def _task_index(self, examples: list[Example]) -> Tensor:
        return torch.tensor([self.tasks.index(example.task) for example in examples])

    def _slots(
        self, examples: list[Example], prompts: list[Prompt], skip: Sequence[int] | None = None
    ) -> SlotBatch | None:
        before = skip or [0] * len(prompts)
        found = [(kind, row, at - before[row], item) for row, p in enumerate(prompts) for at, kind, item in p.slots]
        if not found:  # codes are text
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
