"""What Weights & Biases gets: a finished run's metrics, tables and artifacts, and the review report of a sweep.

Files stay the source. ``make dashboard`` runs this module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckf.config.compose import compose
from ckf.config.schema import WandbConfig
from ckf.config.sweep_file import VARIANT, Sweep, file_trials, load_sweep, rendered_path, sweep_name
from ckf.core.artifact_store import read_json
from ckf.core.errors import CkfError
from ckf.report.load_runs import Run, cost_metrics, load_predictions, load_run
from ckf.report.run_tables import calibration
from ckf.report.table_rows import heading
from ckf.tracking.loggers import wandb_is_offline

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

HOW = (
    "the report needs a login and W&B's report API: pip install wandb-workspaces, then `wandb login` "
    "(or WANDB_API_KEY), `wandb sync outputs/*/wandb/offline-run-*` for runs that were offline, and this command again"
)


ROWS = 2_000
"""Predictions in the table at most, the first by example id; the run folder has all."""
_INPUTS = {"dataset": ("manifest.json", "card.md"), "cf": ("manifest.json",)}
"""Artifacts that a run uses, and the files of them that are uploaded: manifests and dataset cards, never data."""
_TYPES = {"dataset": "dataset", "cf": "embeddings"}


def mirror_run(logger: Logger, folder: Path) -> None:
    """Send a finished run's results to its logger: W&B gets all of it, others the final metrics."""
    run = load_run(folder)
    metrics = {**run.metrics, **cost_metrics(run.metadata)}
    experiment: Any = getattr(logger, "experiment", None)
    if not (hasattr(experiment, "summary") and hasattr(experiment, "log_artifact")):
        logger.log_metrics({f"final/{key}": value for key, value in metrics.items()})
        return
    experiment.summary.update(metrics)
    experiment.log(_panels(run))
    _log_artifacts(experiment, run)


def _panels(run: Run) -> dict[str, Any]:
    """The prediction table, the reliability curve and the fusion diagnostics, as far as the run has them."""
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
    measures = [
        [key.removeprefix("diagnostics/"), value]
        for key, value in run.metrics.items()
        if key.startswith("diagnostics/")
    ]
    if measures:
        table = wandb.Table(columns=["measure", "value"], data=measures)
        panels["panels/diagnostics"] = wandb.plot.bar(table, "measure", "value", title="fusion diagnostics")
    return panels


def _log_artifacts(experiment: Any, run: Run) -> None:
    """Dataset and embeddings as used, the adapters as made.

    Offline W&B cannot note a use: the inputs' names, which end in their hashes, are in the adapters' metadata too.
    """
    import wandb

    artifacts = run.metadata["artifacts"]
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
            metadata={"inputs": inputs, "git": run.metadata.get("git"), **_read_if(run.path / "fusion.json")},
        )  # fmt: skip
        made.add_dir(str(run.path / "adapters"), name="adapters")
        for file in ("fusion.safetensors", "fusion.json", "config.yaml"):
            if (run.path / file).is_file():
                made.add_file(str(run.path / file))
        experiment.log_artifact(made)


def _read_if(path: Path) -> dict[str, Any]:
    """A JSON file's content under its name; nothing where there is no such file."""
    return {path.stem: read_json(path)} if path.is_file() else {}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of a sweep file (or of a folder's sweep.yaml) and print its address."""
    place = Path((sys.argv[1:] if argv is None else list(argv))[0])
    try:
        print(write_report(place / "sweep.yaml" if place.is_dir() else place))
    except CkfError as error:
        for line in str(error).splitlines():
            print(f"ckf: {line}", file=sys.stderr)
        return error.exit_status
    return 0


def write_report(path: Path) -> str:
    """The address of the report of a sweep file, whose runs are those of its group.

    Raises:
        CkfError: no login, or W&B's report API is not installed; names both.
    """
    sweep = load_sweep(path)
    logger = compose(file_trials(sweep)[0].overrides)[0].logger
    cfg = logger if isinstance(logger, WandbConfig) else WandbConfig()
    if wandb_is_offline(cfg.mode):
        raise CkfError(HOW)
    try:
        import wandb_workspaces.reports.v2 as reports
    except ImportError:
        raise CkfError(HOW) from None
    report = reports.Report(project=cfg.project, entity=cfg.entity or "", title=sweep.title, description=sweep.question)
    report.blocks = blocks(reports, path, sweep, cfg)
    report.save()
    return str(report.url)


def blocks(reports: Any, path: Path, sweep: Sweep, cfg: WandbConfig) -> list[Any]:
    """Question and table as in RESULTS.md, then panels over the runs of the sweep's group."""
    runs = reports.Runset(
        project=cfg.project, entity=cfg.entity or "", name=sweep_name(path),
        filters=f'Metric("group") == "{cfg.group or sweep_name(path)}"',
    )  # fmt: skip
    keys = [key for key in sweep.rows if key != VARIANT]
    columns = [reports.ParallelCoordinatesPlotColumn(f"c::{key}") for key in keys]
    columns += [reports.ParallelCoordinatesPlotColumn(metric) for metric in sweep.metrics]
    panels = [reports.BarPlot(title=heading(metric), metrics=[metric]) for metric in sweep.metrics]
    curves = [reports.LinePlot(x="Step", y=[f"train/{name}"]) for name in ("loss_text", "loss_cf", "weight_text")]
    table = rendered_path(path)
    written = [reports.MarkdownBlock(table.read_text(encoding="utf-8"))] if table.is_file() else []
    return [
        reports.H1(sweep.title),
        reports.P(sweep.question),
        *written,
        reports.PanelGrid(runsets=[runs], panels=[reports.ParallelCoordinatesPlot(columns=columns), *panels, *curves]),
    ]


if __name__ == "__main__":
    sys.exit(main())
