"""Training batches: every step is a function of (seed, step, rank) and is built on demand."""

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
from ckf.prompts.collate import Collators
from ckf.prompts.encoded_example import EncodedExample
from ckf.train.batching.batch_plan import BatchPlan
from ckf.train.batching.length_buckets import computed_tokens, length_buckets
from ckf.train.batching.worker_transport import packed, unpacked
from ckf.train.curriculum import Curriculum

PASS_OVERHEAD_TOKENS = 200
"""Cost of the calls of operations in one forward pass of a small backbone, in tokens computed."""

_Prompts = dict[bool, list[PromptBatch]]


@dataclass
class StepBatch:
    """One micro-batch of a step: the same examples as text and as slot prompts, in length buckets.

    ``shared_prefix``: the slot prompts are continuations of the text prompts (`TrainingCollator.continuation`).
    Each bucket continues the text bucket of the same number, or, with ``own_buckets``, rows of any of them.
    ``answer_weights`` of the prompts already divide by the task's answer tokens in the *global* batch, so that
    the loss does not depend on buckets, ranks or accumulation.
    """

    step: int
    example_ids: list[str]
    prompts: _Prompts  # by "has slots"
    history_cut: int
    shared_prefix: bool = False
    own_buckets: bool = False
    padding: float = 0.0  # fraction of the computed tokens
    tokens: int = 0  # computed tokens without the padding

    def groups(self) -> list[tuple[list[PromptBatch], list[PromptBatch]]]:
        """Text prompts and their continuations; the keys and values of one group are in memory at a time."""
        texts, continuations = self.prompts[False], self.prompts[True]
        if self.own_buckets:
            return [(texts, continuations)]
        return [([text], [continued]) for text, continued in zip(texts, continuations, strict=True)]

    def to(self, device: torch.device) -> StepBatch:
        """Move every prompt batch to ``device``."""
        prompts = {slots: [b.to(device) for b in batches] for slots, batches in self.prompts.items()}
        return dataclasses.replace(self, prompts=prompts)


class StepDataset(Dataset[StepBatch]):
    """Item ``k`` is micro-batch ``k % accumulation_steps`` of step ``k // accumulation_steps``, on one rank.

    ``same_passes``: every rank has the same number of buckets, for processes that gather weights in each pass.
    ``own_buckets``: continuations of all text prompts are put into buckets of their own.
    """

    def __init__(
        self,
        table: ExampleTable,
        collators: Collators,
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
        own_buckets: bool = False,
        same_passes: bool = False,
    ) -> None:
        self.table, self.collators, self.plan = table, collators, plan
        self.steps, self.curriculum, self.length_buckets = steps, curriculum, length_buckets
        self.accumulation_steps, self.rank, self.world_size = accumulation_steps, rank, world_size
        self.share_prefix, self.own_buckets, self.same_passes = share_prefix, own_buckets, same_passes
        self.task_weights = np.asarray(task_weights) / sum(task_weights)

    def __len__(self) -> int:
        return self.steps * self.accumulation_steps

    def __getitem__(self, index: int) -> StepBatch:
        step, micro = divmod(index, self.accumulation_steps)
        shards = self.world_size * self.accumulation_steps
        everyone = self.plan.batch(step)
        examples = [self.table[int(i)] for i in everyone]
        part = slice(self.rank * self.accumulation_steps + micro, None, shards)
        mine = everyone[part]
        # micro-batches and ranks are averaged; these weights make a sum over them
        weights = self._token_weights(everyone, examples) * shards
        kinds = [stream.slots for stream in self.curriculum.streams(step)]
        rows = self.collators.training.encode(examples[part], weights[self.table.task_index[mine]].tolist(), kinds)
        lengths = np.asarray([self._lengths(row, kinds) for row in rows])
        prompts, computed = (
            self._own_buckets(rows, lengths) if self.own_buckets else self._same_buckets(rows, lengths, kinds)
        )
        return StepBatch(
            step=step,
            example_ids=[self.table.example_id[i] for i in mine],
            prompts=prompts,
            history_cut=sum(any(p.history_cut for p in row.prompts.values()) for row in rows),
            shared_prefix=self.share_prefix,
            own_buckets=self.own_buckets,
            padding=1.0 - int(lengths.sum()) / computed,
            tokens=int(lengths.sum()),
        )

    def _lengths(self, row: EncodedExample, kinds: list[bool]) -> list[int]:
        """Tokens that each forward pass computes for a row."""
        if self.share_prefix:
            return [row.length(False), row.length(True) - row.shared_tokens]
        return [row.length(slots) for slots in kinds]

    def _same_buckets(self, rows: list[EncodedExample], lengths: np.ndarray, kinds: list[bool]) -> tuple[_Prompts, int]:
        """Prompts in the same buckets for every stream, and the number of tokens computed."""
        buckets = self._buckets(lengths, self.length_buckets)
        found: _Prompts = {kind: [] for kind in kinds}
        collate = self.collators.training
        for kind in kinds:
            for bucket in buckets:
                mine = [rows[i] for i in bucket]
                continued = kind and self.share_prefix
                found[kind].append(collate.continuation(mine) if continued else collate.batch(mine, slots=kind))
        return found, computed_tokens(lengths, buckets)

    def _own_buckets(self, rows: list[EncodedExample], lengths: np.ndarray) -> tuple[_Prompts, int]:
        """Text prompts and continuations each in their own buckets, and the number of tokens computed."""
        saved = min(PASS_OVERHEAD_TOKENS, int(lengths.sum()) // 20)  # less for a small batch
        texts = self._buckets(lengths[:, :1], self.length_buckets, saved)
        continuations = self._buckets(lengths[:, 1:], self.length_buckets, saved)
        place = np.argsort(np.concatenate(texts))  # of each row among the text prompts
        collate = self.collators.training
        prompts = {
            False: [collate.batch([rows[i] for i in bucket], slots=False) for bucket in texts],
            True: [collate.continuation([rows[i] for i in bucket], place[bucket].tolist()) for bucket in continuations],
        }
        return prompts, computed_tokens(lengths[:, :1], texts) + computed_tokens(lengths[:, 1:], continuations)

    def _buckets(self, lengths: np.ndarray, count: int, min_saved_tokens: int = 0) -> list[np.ndarray]:
        return length_buckets(lengths, count, exactly=self.same_passes, min_saved_tokens=min_saved_tokens)

    def _token_weights(self, everyone: np.ndarray, examples: list[Example]) -> np.ndarray:
        """Loss weight of an answer token by task: task weight / the task's tokens in the global batch."""
        encoder = self.collators.encoder
        counts = [len(encoder.answer_ids(x.task, encoder.true_label(x))) for x in examples]
        tokens = np.bincount(self.table.task_index[everyone], weights=counts, minlength=len(self.task_weights))
        return self.task_weights / np.maximum(tokens, 1)


class PackedSteps(Dataset[bytes]):
    """The same micro-batches as bytes, to send from one process to another."""

    def __init__(self, steps: StepDataset) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> bytes:
        return packed(self.steps[index])


class StepSampler(Sampler[list[int]]):
    """The numbers of each step's micro-batches, from ``first_step`` on, with the length of all steps.

    Lightning counts steps from the start of the run, and would take a shorter loader for a finished run.
    """

    def __init__(self, first_step: int, steps: int, accumulation_steps: int) -> None:
        self.first_step, self.steps, self.accumulation_steps = first_step, steps, accumulation_steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.steps):
            first = step * self.accumulation_steps
            yield list(range(first, first + self.accumulation_steps))

    def __len__(self) -> int:
        return self.steps


class StepDataModule(pl.LightningDataModule):
    """Gives Lightning the steps from ``first_step`` on, in order: one item is the micro-batches of one step."""

    def __init__(self, dataset: StepDataset, first_step: int, workers: int) -> None:
        super().__init__()
        self.dataset, self.first_step, self.workers = dataset, first_step, workers

    def train_dataloader(self) -> DataLoader:
        """A list of `StepBatch` an item, not shuffled: the batch plan has drawn the order."""
        order = StepSampler(self.first_step, self.dataset.steps, self.dataset.accumulation_steps)
        steps: Dataset[Any] = PackedSteps(self.dataset) if self.workers else self.dataset
        return DataLoader(steps, batch_sampler=order, collate_fn=list, num_workers=self.workers)

    def transfer_batch_to_device(
        self, batch: list[StepBatch | bytes], device: torch.device, dataloader_idx: int
    ) -> list[StepBatch]:
        """Move the tensors of a step's micro-batches."""
        return [(unpacked(one) if isinstance(one, bytes) else one).to(device) for one in batch]


def approximate_lengths(table: ExampleTable, collators: Collators) -> np.ndarray:
    """Approximate prompt lengths [n] in tokens, good enough to sort by, without encoding every prompt."""
    encoder = collators.encoder
    titles = np.asarray([len(encoder.piece(f" {title}")) + 1 for title in encoder.titles])  # one more for the separator
    lengths = np.empty(len(table))
    for i in range(len(table)):
        history, review = table.list_of("history", i), table.review[i]
        lengths[i] = titles[history].sum() + titles[table.list_of("candidates", i)].sum()
        lengths[i] += 2.0 * len(table.list_of("history_ratings", i)) + (1.3 * len(review.split()) if review else 0.0)
    for task in range(len(table.tasks)):  # the rest of a task's wording
        rows = np.flatnonzero(table.task_index == task)
        if len(rows):
            first = table[int(rows[0])]
            lengths[rows] += len(encoder.encode(first, slots=False).token_ids) - lengths[rows[0]]
    return lengths
