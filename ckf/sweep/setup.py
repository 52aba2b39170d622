"""What a grid and a search share before the first trial: the launcher, the sweep's folder, each trial's group."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ckf.config.schema import (
    ExperimentConfig,
    LauncherConfig,
    LocalLauncherConfig,
    SlurmLauncherConfig,
    WandbConfig,
)
from ckf.sweep.launchers import Launcher, LocalLauncher
from ckf.sweep.scheduler import Coordinator
from ckf.sweep.slurm import SlurmLauncher


def build_launcher(cfg: LauncherConfig, logs: Path) -> Launcher:
    """Typed config to launcher; ``logs`` is the sweep's folder."""
    match cfg:
        case LocalLauncherConfig():
            return LocalLauncher(cfg)
        case SlurmLauncherConfig():
            return SlurmLauncher(cfg, logs)
    raise TypeError(f"no launcher is built from {type(cfg).__name__}; add a case in ckf/sweep/setup.py")


def open_sweep(place: Path, how: ExperimentConfig, total: int) -> Coordinator:
    """Make the sweep's folder and its coordinator, and say so."""
    place.mkdir(parents=True, exist_ok=True)
    coordinator = Coordinator(build_launcher(how.launcher, place), total, say)
    say(f"sweep: {total} trials, {how.launcher.jobs} at a time ({how.launcher.name}); logs in {place}")
    return coordinator


def in_sweep(config: ExperimentConfig, name: str) -> ExperimentConfig:
    """A trial's config with the sweep as its group in Weights & Biases, unless it has another."""
    logger = config.logger
    if isinstance(logger, WandbConfig) and logger.group is None:
        return dataclasses.replace(config, logger=dataclasses.replace(logger, group=name))
    return config


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
