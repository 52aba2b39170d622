"""Lightning's trainer for a run."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers import Logger

from ckf.config.schema import ExperimentConfig, TrainerConfig
from ckf.core.errors import ConfigError, Problem
from ckf.tracking.loggers import JsonlLogger


def build_trainer(
    exp: ExperimentConfig, run: Path, steps: int, first_step: int, logger: Logger | None, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """Make the configured trainer; ``callbacks`` are the run's own. The module accumulates and clips (`FineTuning`)."""
    from hydra.utils import get_class

    # lists of devices and advertisements are no news to who chose the trainer
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    cfg = exp.trainer
    return get_class(cfg._target_)(
        accelerator=cfg.accelerator,
        devices=cfg.devices,
        num_nodes=cfg.num_nodes,
        strategy=_strategy(cfg.strategy, cfg.accelerator),
        precision=cfg.precision,
        max_steps=steps,
        max_epochs=1,
        log_every_n_steps=min(exp.train.log_every_steps, steps),  # a short run logs its last step
        logger=[JsonlLogger(run, first_step), *([logger] if logger else [])],
        callbacks=[*callbacks, Progress(refresh_rate=10)],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=str(run),
    )


def check_devices(cfg: TrainerConfig) -> None:
    """Check that there is a GPU where the trainer needs one; how many each process sees is up to the launcher.

    Raises:
        ConfigError: there is none.
    """
    if cfg.accelerator == "gpu" and not torch.cuda.is_available():
        line = f"gpu, but torch {torch.__version__} finds none here; use trainer=cpu"
        raise ConfigError([Problem("trainer.accelerator", line)])


def _strategy(name: str, accelerator: str) -> Any:
    if name == "fsdp":
        name = "ddp"  # the backbone is sharded apart (`ckf.train.distributed.fsdp`), the rest is DDP's
    if name == "ddp" and accelerator == "cpu":
        from pytorch_lightning.strategies import DDPStrategy

        return DDPStrategy(process_group_backend="gloo")
    return name


@contextmanager
def without_advice() -> Iterator[None]:
    """Ignore warnings of Lightning that do not apply here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")  # our sampler starts at the step
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # the frozen backbone
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        yield


class Progress(TQDMProgressBar):
    """Lightning's progress bar on stderr; stdout is for the command's output and the run folder."""

    def init_train_tqdm(self) -> Tqdm:
        """Make the bar over the steps."""
        return Tqdm(desc="training", unit="step", leave=True, dynamic_ncols=True, file=sys.stderr, mininterval=1.0)
