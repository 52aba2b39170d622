"""What a run took: seconds a step, waiting for data, tokens and padding, measured while it trains."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from ckf.train.batching.batches import StepBatch


class StepClock(pl.Callback):
    """Times the steps of this session. Between a batch's end and the next one's start the step waits for its data."""

    def __init__(self) -> None:
        self.steps = self.tokens = 0
        self.computed = self.waiting = self.seconds = 0.0
        self._last = self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock before the first batch is fetched."""
        self._since = self._last = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """The batch is there."""
        self.waiting += time.perf_counter() - self._last

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, index: int
    ) -> None:
        """Count the batch; what comes until the next one is waiting."""
        self.tokens += batch.tokens
        self.computed += batch.tokens / (1.0 - batch.padding)
        self._last = time.perf_counter()
        self.seconds = self._last - self._since
        self.steps = trainer.global_step

    def counts(self, first_step: int) -> dict[str, float]:
        """For the run's card; of this session's steps alone where the run was resumed."""
        done = self.steps - first_step
        if done <= 0:
            return {}
        return {
            "seconds_per_step": round(self.seconds / done, 4),
            "tokens_per_second": round(self.tokens / self.seconds, 1),
            "waiting_share": round(self.waiting / self.seconds, 4),
            "padding_share": round(1.0 - self.tokens / self.computed, 4),
        }
