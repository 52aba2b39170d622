"""Loggers of step metrics: ``metrics.jsonl`` always, and the configured Lightning logger."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from ckf.config.schema import CSVConfig, ExperimentConfig, WandbConfig
from ckf.core.artifact_store import json_text, read_json_lines, to_jsonable

STEPS = "metrics.jsonl"
_TAGGED = ("dataset", "split", "cf", "backbone", "lora", "fusion", "curriculum", "method")
"""Groups whose options are a run's tags."""
_MACHINE_GROUPS = ("paths", "launcher", "search", "overwrite")


class JsonlLogger(Logger):
    """Writes one JSON object a line: ``step`` and its metrics. The report draws its curves from them."""

    def __init__(self, run: Path, first_step: int = 0) -> None:
        super().__init__()
        self.path = run / STEPS
        self._drop_from(first_step)

    @property
    def name(self) -> str:
        """Lightning's name of the logger."""
        return "jsonl"

    @property
    def version(self) -> str:
        """There is one file a run."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        values = {key: float(value) for key, value in metrics.items() if key != "epoch" and math.isfinite(value)}
        if values:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json_text({"step": step, **values}) + "\n")

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config is in ``config.yaml``."""

    @rank_zero_only
    def _drop_from(self, first_step: int) -> None:
        """Drop the lines from the checkpoint's step on, and a last line that was cut short; a new run starts empty."""
        lines = read_json_lines(self.path, drop_cut_end=True) if first_step else []
        kept = [json_text(line) for line in lines if line["step"] < first_step]
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def wandb_is_offline(mode: str) -> bool:
    """Whether W&B stays offline: as configured, or with ``auto`` where there is no login. Never prompts or waits."""
    if mode != "auto":
        return mode != "online"
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return True
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return False
    try:
        return not any("wandb" in host for host in netrc.netrc().hosts)
    except (FileNotFoundError, netrc.NetrcParseError):
        return True


def build_logger(exp: ExperimentConfig, run: Path, job_type: str = "train") -> Logger:
    """Make the configured logger for a run; its id is the run folder's name, so a resumed run continues it."""
    from hydra.utils import get_class

    target = get_class(exp.logger._target_)
    match exp.logger:
        case WandbConfig():
            logger = target(**wandb_arguments(exp, exp.logger, run, job_type))
        case CSVConfig():
            logger = target(save_dir=str(run), name="csv", version="")
        case _:
            logger = target()
    logger.log_hyperparams(flat_config(exp))
    return logger


def wandb_arguments(exp: ExperimentConfig, cfg: WandbConfig, run: Path, job_type: str) -> dict[str, Any]:
    """Arguments of Lightning's WandbLogger: one W&B run for each run folder, however often it is opened."""
    import wandb

    offline = wandb_is_offline(cfg.mode)
    options = {"mode": "disabled"} if cfg.mode == "disabled" else {}
    return {
        "project": cfg.project,
        "entity": cfg.entity,
        "group": cfg.group or exp.name,
        "name": run.name,
        "id": run.name[-100:],
        "save_dir": str(run),
        "offline": offline,
        "resume": None if offline else "allow",
        "job_type": job_type,
        "tags": [f"{group}:{getattr(exp, group).name}" for group in _TAGGED],
        "settings": wandb.Settings(silent=True, console="off", init_timeout=60, **options),
    }


def flat_config(exp: ExperimentConfig) -> dict[str, Any]:
    """Config as flat keys (``lora.rank``), for parallel-coordinates plots, without the settings of this machine."""
    flat = _flat(to_jsonable(exp))
    return {key: value for key, value in flat.items() if key.split(".")[0] not in _MACHINE_GROUPS}


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        elif key != "_target_":
            flat[f"{prefix}{key}"] = value
    return flat


def finish(logger: Logger) -> None:
    """Close a logger, so that the next run of this process opens its own."""
    logger.finalize("success")
    experiment = getattr(logger, "experiment", None)
    if experiment is not None and hasattr(experiment, "finish"):
        experiment.finish()
