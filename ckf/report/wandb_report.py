"""``make dashboard``: the review report of a sweep in Weights & Biases, made through W&B's report API."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ckf.config.compose import compose
from ckf.config.schema import WandbConfig
from ckf.config.sweep_file import VARIANT, Sweep, file_trials, load_sweep, rendered_path, sweep_name
from ckf.core.errors import CkfError
from ckf.report.table_rows import heading
from ckf.tracking.loggers import wandb_is_offline

HOW = (
    "the report needs a login and W&B's report API: pip install wandb-workspaces, then `wandb login` "
    "(or WANDB_API_KEY), `wandb sync outputs/*/wandb/offline-run-*` for runs that were offline, and this command again"
)


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
        CkfError: no login, or W&B's report API is not installed; says how to get both.
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
    """Question and table as they stand in RESULTS.md, then panels over the runs of the sweep's group."""
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
