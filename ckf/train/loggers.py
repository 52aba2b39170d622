"""Where step metrics go: always to ``metrics.jsonl``, and to the configured Lightning logger."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from ckf.artifacts import plain, read_json, write_json
from ckf.config.schema import CSVConfig, ExperimentConfig, WandbConfig

STEPS = "metrics.jsonl"
LOGGED = "logged.json"
"""Says that a CF artifact's figures have gone to the logger, and what the kept epoch's are."""


class JsonlLogger(Logger):
    """One JSON object a line: ``step`` and the metrics logged at it. The report draws its curves from this."""

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
        values = {key: float(value) for key, value in metrics.items() if key != "epoch"}
        if values:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The config lies in ``config.yaml``."""

    @rank_zero_only
    def _drop_from(self, first_step: int) -> None:
        """A resumed run logs again from its checkpoint on, a line that a kill cut short too; a new one starts empty."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() and first_step else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] < first_step]
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def wandb_is_offline(mode: str) -> bool:
    """Whether to stay offline: asked for, or ``auto`` without a login. Never prompts, never waits."""
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
        case WandbConfig(project=project, entity=entity, group=group, mode=mode):
            logger = target(
                project=project,
                entity=entity,
                group=group or exp.name,
                name=run.name,
                id=run.name[-100:],
                save_dir=str(run),
                offline=wandb_is_offline(mode),
                resume="allow" if not wandb_is_offline(mode) else None,
                job_type=job_type,
                tags=[exp.dataset.name, exp.backbone.name, exp.fusion.name, exp.lora.name, exp.curriculum.name],
                settings=_quiet_settings(disabled=mode == "disabled"),
            )
        case CSVConfig():
            logger = target(save_dir=str(run), name="csv", version="")
        case _:
            logger = target()
    logger.log_hyperparams(_flat(plain(exp)))
    return logger


def log_cf(exp: ExperimentConfig, cf: Path) -> Path:
    """Put the figures of a CF model's epochs and those of the kept one into the configured logger, once.

    One run a CF artifact, below ``outputs/cf/``: a sweep of the CF stage is compared there as one of runs is.
    Returns its folder.
    """
    run = Path(exp.paths.outputs) / "cf" / cf.name
    if (run / LOGGED).is_file() and not exp.force:
        return run
    run.mkdir(parents=True, exist_ok=True)
    card = read_json(cf / "manifest.json")
    epochs = cf / STEPS  # models that are not trained by steps have none
    lines = [json.loads(line) for line in epochs.read_text(encoding="utf-8").splitlines()] if epochs.is_file() else []
    kept = {key: value for key, value in card.items() if key in ("epoch", "epochs_run", "seconds") or "val_" in key}
    logger = build_logger(exp, run, job_type="cf")
    try:
        for line in lines:
            logger.log_metrics({f"cf/{key}": value for key, value in line.items()}, step=int(line["epoch"]))
        logger.log_metrics({f"cf/kept/{key}": float(value) for key, value in kept.items()}, step=len(lines) + 1)
    finally:
        finish(logger)
    write_json(run / LOGGED, {"cf": str(cf), "model": exp.cf.name, "seed": exp.seed, **kept})
    return run


def _quiet_settings(*, disabled: bool) -> Any:
    import wandb

    options = {"mode": "disabled"} if disabled else {}
    return wandb.Settings(silent=True, console="off", init_timeout=60, **options)


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Config as flat keys (``lora.rank``), which parallel-coordinates plots need."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        elif key != "_target_":
            flat[f"{prefix}{key}"] = value
    return flat


def finish(logger: Logger) -> None:
    """Close a logger for good, so that the next run of this process starts one of its own."""
    logger.finalize("success")
    experiment = getattr(logger, "experiment", None)
    if experiment is not None and hasattr(experiment, "finish"):
        experiment.finish()
