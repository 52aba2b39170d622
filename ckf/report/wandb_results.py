"""A finished run in Weights & Biases: final metrics, predictions, panels and artifacts. Files stay the source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckf.core.artifact_store import read_json
from ckf.core.errors import CkfError
from ckf.report.cost import cost_metrics
from ckf.report.load_runs import Run, load_predictions, load_run
from ckf.report.slice_tables import calibration

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

ROWS = 2_000
"""Predictions in the table at most, the first by example id; the run folder has all."""
_INPUTS = {"dataset": ("manifest.json", "card.md"), "cf": ("manifest.json",)}
"""Artifacts that a run uses, and which files of them go along: what says what they are, never the data."""
_TYPES = {"dataset": "dataset", "cf": "embeddings"}


def mirror_run(logger: Logger, folder: Path) -> None:
    """Send a finished run's results to its logger: W&B gets all of it, others the final metrics."""
    run = load_run(folder)
    metrics = {**run.metrics, **cost_metrics(run.card)}
    experiment: Any = getattr(logger, "experiment", None)
    if not (hasattr(experiment, "summary") and hasattr(experiment, "log_artifact")):
        logger.log_metrics({f"final/{key}": value for key, value in metrics.items()})
        return
    experiment.summary.update(metrics)
    experiment.log(_panels(run))
    _log_artifacts(experiment, run)


def _panels(run: Run) -> dict[str, Any]:
    """The prediction table, the reliability curve and the fusion's health, as far as the run has them."""
    import wandb

    panels: dict[str, Any] = {}
    try:
        rows = load_predictions(run, "test")
        curves = calibration(run, "test")
    except CkfError:
        rows, curves = None, {}
    if rows is not None:
        mine = rows[rows["source"] == "model"].sort_values(["example_id", "item"], kind="stable").head(ROWS)
        panels["predictions/test"] = wandb.Table(dataframe=mine.reset_index(drop=True))
    if curves:
        points = [
            [name, float(p), float(o), int(n)]
            for name, curve in curves.items()
            for p, o, n in zip(curve.predicted, curve.observed, curve.count, strict=True)
        ]
        panels["panels/reliability"] = wandb.Table(columns=["source", "predicted", "observed", "rows"], data=points)
    health = [[key.removeprefix("health/"), value] for key, value in run.metrics.items() if key.startswith("health/")]
    if health:
        table = wandb.Table(columns=["measure", "value"], data=health)
        panels["panels/health"] = wandb.plot.bar(table, "measure", "value", title="fusion health")
    return panels


def _log_artifacts(experiment: Any, run: Run) -> None:
    """Dataset and embeddings as used, the adapters as made.

    Offline W&B cannot note a use: the inputs' names, which end in their hashes, stand in the adapters' metadata too.
    """
    import wandb

    artifacts = run.card["artifacts"]
    inputs = {name: Path(artifacts[name]["path"]).name for name in _INPUTS if name in artifacts}
    if not getattr(experiment, "offline", False):
        for name in inputs:
            place, known = Path(artifacts[name]["path"]), {"hash": artifacts[name]["hash"]}
            used = wandb.Artifact(inputs[name], type=_TYPES[name], metadata=known)
            for file in _INPUTS[name]:
                if (place / file).is_file():
                    used.add_file(str(place / file))
            experiment.use_artifact(used)
    if (run.path / "adapters").is_dir():
        made = wandb.Artifact(
            f"{run.path.name}-adapters", type="adapters",
            metadata={"inputs": inputs, "git": run.card.get("git"), **_read_if(run.path / "fusion.json")},
        )  # fmt: skip
        made.add_dir(str(run.path / "adapters"), name="adapters")
        for file in ("fusion.safetensors", "fusion.json", "config.yaml"):
            if (run.path / file).is_file():
                made.add_file(str(run.path / file))
        experiment.log_artifact(made)


def _read_if(path: Path) -> dict[str, Any]:
    """A JSON file's content under its name; nothing where there is no such file."""
    return {path.stem: read_json(path)} if path.is_file() else {}
