"""Log the metrics of a CF model's epochs to the configured logger, while it is trained."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from pytorch_lightning.loggers import Logger

from ckf.config.schema import ExperimentConfig
from ckf.core.artifact_store import read_json, read_json_lines, write_json
from ckf.tracking.loggers import STEPS, build_logger, finish

LOGGED = "logged.json"
"""Marks that a CF artifact's metrics have been logged; holds those of the epoch that was kept."""


class CFLog:
    """One logger run for each CF artifact, in ``outputs/cf/`` (``run``), so that CF models can be compared there.

    ``cf`` is the folder of the artifact. The logger is opened at the first epoch. A model that another process
    trained, or that existed before, is logged at once by `kept`, unless it has been logged.
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

    def epoch(self, metrics: dict[str, float]) -> None:
        """Log the metrics of an epoch at once, so that they can be read while the next one runs."""
        self.epochs += 1
        self._log({f"cf/{key}": value for key, value in metrics.items()}, int(metrics["epoch"]))

    def kept(self) -> None:
        """Log the metrics of the kept epoch, after those of all epochs that have not been logged."""
        if not self.epochs:
            if (self.run / LOGGED).is_file() and not self.exp.overwrite:
                return
            for line in _epochs(self.cf):
                self.epoch(line)
        manifest = read_json(self.cf / "manifest.json")
        kept = {
            key: value
            for key, value in manifest.items()
            if (key in ("epoch", "epochs_run", "seconds") or "val_" in key) and value is not None
        }
        self._log({f"cf/kept/{key}": float(value) for key, value in kept.items()}, self.epochs + 1)
        write_json(self.run / LOGGED, {"cf": str(self.cf), "model": self.exp.cf.name, "seed": self.exp.seed, **kept})

    def _log(self, metrics: dict[str, float], step: int) -> None:
        if self._logger is None:
            self.run.mkdir(parents=True, exist_ok=True)
            self._logger = build_logger(self.exp, self.run, job_type="cf")
        self._logger.log_metrics(metrics, step=step)
        self._logger.save()  # Lightning's CSV logger would buffer a hundred lines


def _epochs(cf: Path) -> list[dict[str, float]]:
    """The metrics of the artifact's epochs; models that are not trained by steps have none."""
    return read_json_lines(cf / STEPS)
