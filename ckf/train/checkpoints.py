"""Checkpoints that survive a kill: written to a temporary name and renamed, the last two kept, each checked first."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ckf.core.errors import CkfError, first_line
from ckf.runs.folder import LAST, PREVIOUS
from ckf.train.graceful_stop import StopRequest


class CheckpointFiles:
    """``checkpoints/last.ckpt`` and ``previous.ckpt`` of a run. A kill at any point leaves one of them intact."""

    def __init__(self, run: Path) -> None:
        self.last, self.previous = run / LAST, run / PREVIOUS

    @property
    def writing(self) -> Path:
        """The temporary name of the next checkpoint."""
        return self.last.with_suffix(".writing")

    def promote(self) -> None:
        """Make the written file the last checkpoint, and the last one the previous."""
        with self.writing.open("rb") as file:  # the name must never reach the disk before the bytes
            os.fsync(file.fileno())
        if self.last.exists():
            os.replace(self.last, self.previous)
        os.replace(self.writing, self.last)

    def newest(self, log: Callable[[str], None]) -> tuple[Path | None, int]:
        """The newest intact checkpoint and its optimizer step; (None, 0) where there is none.

        Raises:
            CkfError: there are checkpoints, and all of them are broken.
        """
        broken: list[str] = []
        for path in (self.last, self.previous):
            if not path.is_file():
                continue
            problem, step = inspect_checkpoint(path)
            if problem is None:
                if broken:
                    log(f"{broken[0]}; continuing from the one before, step {step}")
                return path, step
            broken.append(f"{path}: {problem}")
        if broken:
            raise CkfError(f"{'; '.join(broken)}: no checkpoint is left; overwrite=true starts the run again")
        return None, 0


def inspect_checkpoint(path: Path) -> tuple[str | None, int]:
    """The problem of a checkpoint (None where it is intact) and its optimizer step; verifies all checksums."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not verify the checksums of tensors
            if damaged := archive.testzip():
                return f"damaged (checksum of {damaged})", 0
        return None, int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
    except (zipfile.BadZipFile, RuntimeError, KeyError, EOFError, OSError, ValueError, NotImplementedError) as error:
        return f"unreadable ({type(error).__name__}: {first_line(error) if str(error) else 'empty'})", 0


class Checkpoint(pl.Callback):
    """Saves every so many optimizer steps, at the last step, and when a signal asks the run to stop."""

    def __init__(self, run: Path, every_steps: int) -> None:
        self.files, self.every_steps = CheckpointFiles(run), every_steps
        self.stop = StopRequest()
        self.saved = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals from Lightning, whose own handler may stop within a step."""
        self.stop.listen()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the signal handlers."""
        self.stop.restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers."""
        self.stop.restore()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Save where it is due, and stop where that was asked for."""
        step = trainer.global_step
        if step == self.saved or step == 0:
            return
        stop = trainer.strategy.reduce_boolean_decision(self.stop.requested, all=False)  # one rank stops: all stop
        if stop or step % self.every_steps == 0 or step == trainer.max_steps:
            self._save(trainer, step)
        if stop:
            trainer.should_stop = True
            trainer.fit_loop.epoch_loop.min_steps = None

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        before, self.saved = self.saved, step
        self.files.last.parent.mkdir(parents=True, exist_ok=True)
        try:
            trainer.save_checkpoint(self.files.writing, weights_only=False)
            if trainer.is_global_zero:
                self.files.promote()
        except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError where a disk is full
            self.files.writing.unlink(missing_ok=True)
            kept = f"the one of step {before} is intact" if before > 0 else "there is no earlier one in this session"
            raise CkfError(
                f"step {step}: the checkpoint {self.files.last} could not be written ({first_line(error)}); "
                f"{kept}, the same command continues from it"
            ) from None


def log_to_stderr(line: str) -> None:
    """Print a line for the user on stderr; the last line of stdout is the run folder."""
    print(f"ckf: {line}", file=sys.stderr, flush=True)
