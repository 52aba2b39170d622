"""Checkpoints that survive: written beside and renamed, the last two kept, each checked before it is trusted."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ckf.core.errors import CkfError
from ckf.runs.folder import LAST, PREVIOUS
from ckf.train.graceful_stop import StopRequest


class CheckpointFiles:
    """``checkpoints/last.ckpt`` and ``previous.ckpt`` of a run. A kill at any point leaves one that is whole."""

    def __init__(self, run: Path) -> None:
        self.last, self.previous = run / LAST, run / PREVIOUS

    @property
    def writing(self) -> Path:
        """Where the next one is written before it takes the place of the last."""
        return self.last.with_suffix(".writing")

    def promote(self) -> None:
        """Make the written file the last checkpoint, and the last one the previous."""
        with self.writing.open("rb") as file:  # the name must never reach the disk before the bytes
            os.fsync(file.fileno())
        if self.last.exists():
            os.replace(self.last, self.previous)
        os.replace(self.writing, self.last)

    def newest(self, say: Callable[[str], None]) -> tuple[Path | None, int]:
        """The newest whole checkpoint and its optimizer step; (None, 0) where there is none.

        Raises:
            CkfError: there are checkpoints, and all of them are broken.
        """
        broken: list[str] = []
        for path in (self.last, self.previous):
            if not path.is_file():
                continue
            fault, step = inspect_checkpoint(path)
            if fault is None:
                if broken:
                    say(f"{broken[0]}; continuing from the one before, step {step}")
                return path, step
            broken.append(f"{path}: {fault}")
        if broken:
            raise CkfError(f"{'; '.join(broken)}: no checkpoint is left; overwrite=true starts the run anew")
        return None, 0


def inspect_checkpoint(path: Path) -> tuple[str | None, int]:
    """What is wrong with a checkpoint (None: nothing) and its optimizer step; every byte's checksum is read."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare the checksums of tensors
            if damaged := archive.testzip():
                return f"damaged (checksum of {damaged})", 0
        return None, int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
    except (zipfile.BadZipFile, RuntimeError, KeyError, EOFError, OSError, ValueError, NotImplementedError) as error:
        return f"unreadable ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'empty'})", 0


class Checkpoint(pl.Callback):
    """Saves every so many optimizer steps, at the last one, and when a signal asks the run to stop."""

    def __init__(self, run: Path, every_steps: int) -> None:
        self.files, self.every_steps = CheckpointFiles(run), every_steps
        self.stop = StopRequest()
        self.saved = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over from Lightning, whose own handler may leave a step half done."""
        self.stop.listen()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self.stop.restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self.stop.restore()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Save at optimizer steps, not at the micro-batches between them."""
        step = trainer.global_step
        if step == self.saved or step == 0:
            return
        asked = trainer.strategy.reduce_boolean_decision(self.stop.asked, all=False)  # one rank asked: all stop
        if asked or step % self.every_steps == 0 or step == trainer.max_steps:
            self._save(trainer, step)
        if asked:
            trainer.should_stop = True
            trainer.fit_loop.epoch_loop.min_steps = None

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        before, self.saved = self.saved, step
        self.files.last.parent.mkdir(parents=True, exist_ok=True)
        try:
            trainer.save_checkpoint(self.files.writing, weights_only=False)
            if trainer.is_global_zero:
                self.files.promote()
        except (OSError, RuntimeError) as error:  # torch's zip writer says RuntimeError where a disk is full
            self.files.writing.unlink(missing_ok=True)
            kept = f"the one of step {before} is whole" if before > 0 else "there is no earlier one in this session"
            raise CkfError(
                f"step {step}: the checkpoint {self.files.last} could not be written ({_first_line(error)}); "
                f"{kept}, the same command continues from it"
            ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def say_on_stderr(line: str) -> None:
    """Tell the user without touching stdout, whose last line is the run folder."""
    print(f"ckf: {line}", file=sys.stderr, flush=True)
