"""What a run takes, measured while it trains: seconds a step, waiting for data, tokens and padding."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from ckf.train.batching.batches import StepBatch


class StepClock(pl.Callback):
    """Times the steps of this session; between one step's end and the start of the next, training waits for data."""

    def __init__(self) -> None:
        self.steps = self.tokens = 0
        self.computed = self.waiting = self.seconds = 0.0
        self._last = self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock before the first batch is fetched."""
        self._since = self._last = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Count the time since the last step as waiting."""
        self.waiting += time.perf_counter() - self._last

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: list[StepBatch], index: int
    ) -> None:
        """Count the step's tokens and time."""
        self.tokens += sum(one.tokens for one in batch)
        self.computed += sum(one.tokens / (1.0 - one.padding) for one in batch)
        self._last = time.perf_counter()
        self.seconds = self._last - self._since
        self.steps = trainer.global_step

    def counts(self, first_step: int) -> dict[str, float]:
        """Measurements for the run's metadata; of a resumed run, those of this session's steps."""
        done = self.steps - first_step
        if done <= 0:
            return {}
        return {
            "seconds_per_step": round(self.seconds / done, 4),
            "tokens_per_second": round(self.tokens / self.seconds, 1),
            "waiting_share": round(self.waiting / self.seconds, 4),
            "padding_share": round(1.0 - self.tokens / self.computed, 4),
        }
