"""Training batches: every step is a function of (seed, step, rank), built on demand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ckf.data.example_table import Example, ExampleTable
from ckf.prompts.batch import PromptBatch
from ckf.prompts.collate import Collator
from ckf.prompts.encoded_example import EncodedExample
from ckf.train.batching.batch_plan import BatchPlan
from ckf.train.batching.length_buckets import computed_tokens, length_buckets
from ckf.train.batching.worker_transport import packed, unpacked
from ckf.train.curriculum import Curriculum

PASS = 200
"""Tokens that a pass of a small backbone costs beside its own, in calls of operations."""

_Prompts = dict[bool, list[PromptBatch]]


@dataclass
class StepBatch:
    """One micro-batch of a step: the same examples as text and as slot prompts, in length buckets.

    Where the streams share their prefix, the slot prompts are branches (`Collator.branch`) of the text prompts
    in the bucket of the same number, or, ``joined``, of all text prompts in buckets of their own.
    ``answer_weights`` of the prompts already divide by the task's answer tokens in the *global* batch, so that
    the loss does not depend on buckets, ranks or accumulation.
    """

    step: int
    example_ids: list[str]
    prompts: _Prompts  # by "has slots"
    history_cut: int
    shared: bool = False
    joined: bool = False
    padding: float = 0.0  # share of the computed tokens
    tokens: int = 0  # computed ones without the padding

    def groups(self) -> list[tuple[list[PromptBatch], list[PromptBatch]]]:
        """Text prompts, and the branches that go on from them; the keys and values of a group are held at a time."""
        texts, branches = self.prompts[False], self.prompts[True]
        if self.joined:
            return [(texts, branches)]
        return [([text], [branch]) for text, branch in zip(texts, branches, strict=True)]

    def to(self, device: torch.device) -> StepBatch:
        """Move every prompt batch to ``device``."""
        prompts = {slots: [b.to(device) for b in batches] for slots, batches in self.prompts.items()}
        return dataclasses.replace(self, prompts=prompts)


class StepDataset(Dataset[StepBatch]):
    """Micro-batch ``k`` is micro-batch ``k % accumulation`` of step ``k // accumulation``, on one rank.

    With ``same_passes`` every rank has as many buckets as the others, for processes that gather weights in each pass.
    With ``join_branches`` the branches of all text buckets have buckets of their own.
    """

    def __init__(
        self,
        table: ExampleTable,
        collator: Collator,
        plan: BatchPlan,
        *,
        steps: int,
        curriculum: Curriculum,
        task_weights: list[float],
        length_buckets: int,
        accumulation_steps: int,
        rank: int,
        world_size: int,
        share_prefix: bool,
        join_branches: bool = False,
        same_passes: bool = False,
    ) -> None:
        self.table, self.collator, self.plan = table, collator, plan
        self.steps, self.curriculum, self.length_buckets = steps, curriculum, length_buckets
        self.accumulation_steps, self.rank, self.world_size = accumulation_steps, rank, world_size
        self.share_prefix, self.join_branches, self.same_passes = share_prefix, join_branches, same_passes
        self.task_weights = np.asarray(task_weights) / sum(task_weights)

    def __len__(self) -> int:
        return self.steps * self.accumulation_steps

    def __getitem__(self, index: int) -> StepBatch:
        step, micro = divmod(index, self.accumulation_steps)
        shards = self.world_size * self.accumulation_steps
        everyone = self.plan.batch(step)
        examples = [self.table[int(i)] for i in everyone]
        share = slice(self.rank * self.accumulation_steps + micro, None, shards)
        mine = everyone[share]
        # Lightning averages over accumulated micro-batches and DDP over ranks; the weights are for a sum
        weights = self._token_weights(everyone, examples) * shards
        kinds = [stream.slots for stream in self.curriculum.streams(step)]
        rows = self.collator.rows(examples[share], weights[self.table.task_index[mine]].tolist(), kinds)
        lengths = np.asarray([self._lengths(row, kinds) for row in rows])
        prompts, computed = self._joined(rows, lengths) if self.join_branches else self._apart(rows, lengths, kinds)
        return StepBatch(
            step=step,
            example_ids=[self.table.example_id[i] for i in mine],
            prompts=prompts,
            history_cut=sum(any(p.history_cut for p in row.prompts.values()) for row in rows),
            shared=self.share_prefix,
            joined=self.join_branches,
            padding=1.0 - int(lengths.sum()) / computed,
            tokens=int(lengths.sum()),
        )

    def _lengths(self, row: EncodedExample, kinds: list[bool]) -> list[int]:
        """Tokens of each of the row's passes."""
        if self.share_prefix:
            return [row.length(False), row.length(True) - row.shared]
        return [row.length(slots) for slots in kinds]

    def _apart(self, rows: list[EncodedExample], lengths: np.ndarray, kinds: list[bool]) -> tuple[_Prompts, int]:
        """The same buckets for every stream; also the tokens that are computed."""
        buckets = self._buckets(lengths, self.length_buckets)
        found: _Prompts = {kind: [] for kind in kinds}
        for kind in kinds:
            for bucket in buckets:
                mine = [rows[i] for i in bucket]
                branch = kind and self.share_prefix
                found[kind].append(self.collator.branch(mine) if branch else self.collator.whole(mine, slots=kind))
        return found, computed_tokens(lengths, buckets)

    def _joined(self, rows: list[EncodedExample], lengths: np.ndarray) -> tuple[_Prompts, int]:
        """Text prompts and branches each in their own buckets; also the tokens that are computed."""
        worth = min(PASS, int(lengths.sum()) // 20)  # of a small batch it would be much
        texts = self._buckets(lengths[:, :1], self.length_buckets, worth)
        branches = self._buckets(lengths[:, 1:], self.length_buckets, worth)
        place = np.argsort(np.concatenate(texts))  # of each row among the text prompts
        prompts = {
            False: [self.collator.whole([rows[i] for i in bucket], slots=False) for bucket in texts],
            True: [self.collator.branch([rows[i] for i in bucket], place[bucket].tolist()) for bucket in branches],
        }
        return prompts, computed_tokens(lengths[:, :1], texts) + computed_tokens(lengths[:, 1:], branches)

    def _buckets(self, lengths: np.ndarray, count: int, worth: int = 0) -> list[np.ndarray]:
        return length_buckets(lengths, count, exactly=self.same_passes, worth=worth)

    def _token_weights(self, everyone: np.ndarray, examples: list[Example]) -> np.ndarray:
        """Loss weight of an answer token by task: task weight / the task's tokens in the global batch."""
        encoder = self.collator.encoder
        counts = [len(encoder.answer_ids(x.task, encoder.true_label(x))) for x in examples]
        tokens = np.bincount(self.table.task_index[everyone], weights=counts, minlength=len(self.task_weights))
        return self.task_weights / np.maximum(tokens, 1)


class PackedSteps(Dataset[bytes]):
    """The same micro-batches as bytes, for a process that hands them to another."""

    def __init__(self, steps: StepDataset) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> bytes:
        return packed(self.steps[index])


class ResumeSampler(Sampler[int]):
    """Numbers from ``first`` on, under the length of the whole: Lightning counts batches from the start of the run,
    and would take a shorter loader for a run that is over."""

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total = first, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.total))

    def __len__(self) -> int:
        return self.total


class StepDataModule(pl.LightningDataModule):
    """Hands Lightning the steps from ``first_step`` on, in order."""

    def __init__(self, dataset: StepDataset, first_step: int, workers: int) -> None:
        super().__init__()
        self.dataset, self.first_step, self.workers = dataset, first_step, workers

    def train_dataloader(self) -> DataLoader:
        """One `StepBatch` an item; nothing is shuffled here, the plan has done it."""
        order = ResumeSampler(self.first_step * self.dataset.accumulation_steps, len(self.dataset))
        steps: Dataset[Any] = PackedSteps(self.dataset) if self.workers else self.dataset
        return DataLoader(steps, batch_size=None, sampler=order, num_workers=self.workers)

    def transfer_batch_to_device(
        self, batch: StepBatch | bytes, device: torch.device, dataloader_idx: int
    ) -> StepBatch:
        """Move a step's tensors."""
        return (unpacked(batch) if isinstance(batch, bytes) else batch).to(device)


def approximate_lengths(table: ExampleTable, collator: Collator) -> np.ndarray:
    """Prompt lengths in tokens, near enough to sort by, without encoding every prompt. [n]"""
    encoder = collator.encoder
    titles = np.asarray([len(encoder.piece(f" {title}")) + 1 for title in encoder.titles])  # one more to separate
    lengths = np.empty(len(table))
    for i in range(len(table)):
        history, review = table.list_of("history", i), table.review[i]
        lengths[i] = titles[history].sum() + titles[table.list_of("candidates", i)].sum()
        lengths[i] += 2.0 * len(table.list_of("history_ratings", i)) + (1.3 * len(review.split()) if review else 0.0)
    for task in range(len(table.tasks)):  # what every prompt of a task holds besides
        rows = np.flatnonzero(table.task_index == task)
        if len(rows):
            first = table[int(rows[0])]
            lengths[rows] += len(encoder.encode(first, slots=False).token_ids) - lengths[rows[0]]
    return lengths
