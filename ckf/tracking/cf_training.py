"""The figures of a CF model's epochs in the configured logger, while it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from pytorch_lightning.loggers import Logger

from ckf.config.schema import ExperimentConfig
from ckf.core.artifact_store import read_json, write_json
from ckf.tracking.loggers import STEPS, build_logger, finish

LOGGED = "logged.json"
"""Says that a CF artifact's figures have gone to the logger, and what the kept epoch's are."""


class CFLog:
    """One run of the logger for each CF artifact, in ``outputs/cf/`` (``run``), so that a sweep is compared there.

    ``cf`` is where the artifact will lie. The logger is opened at the first epoch: a model that another process
    trains, or that was there before, is logged as a whole by `kept`, and only if nobody has done so.
    """

    def __init__(self, exp: ExperimentConfig, cf: Path) -> None:
        self.exp, self.cf = exp, cf
        self.run = Path(exp.paths.outputs) / "cf" / cf.name
        self.epochs = 0
        self._logger: Logger | None = None

    def __enter__(self) -> CFLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._logger is not None:
            finish(self._logger)
            self._logger = None

    def epoch(self, figures: dict[str, float]) -> None:
        """Log what was measured after an epoch, so that it can be read while the next one runs."""
        self.epochs += 1
        self._log({f"cf/{key}": value for key, value in figures.items()}, int(figures["epoch"]))

    def kept(self) -> None:
        """Log the figures of the epoch that was kept, before them those of all epochs that have not been logged."""
        if not self.epochs:
            if (self.run / LOGGED).is_file() and not self.exp.overwrite:
                return
            for line in _epochs(self.cf):
                self.epoch(line)
        card = read_json(self.cf / "manifest.json")
        kept = {key: value for key, value in card.items() if key in ("epoch", "epochs_run", "seconds") or "val_" in key}
        self._log({f"cf/kept/{key}": float(value) for key, value in kept.items()}, self.epochs + 1)
        write_json(self.run / LOGGED, {"cf": str(self.cf), "model": self.exp.cf.name, "seed": self.exp.seed, **kept})

    def _log(self, figures: dict[str, float], step: int) -> None:
        if self._logger is None:
            self.run.mkdir(parents=True, exist_ok=True)
            self._logger = build_logger(self.exp, self.run, job_type="cf")
        self._logger.log_metrics(figures, step=step)
        self._logger.save()  # Lightning's CSV logger would keep a hundred lines to itself


def _epochs(cf: Path) -> list[dict[str, float]]:
    """What the artifact says of its epochs; models that are not trained by steps have none."""
    path = cf / STEPS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
