"""``ckf report``: a report of run folders, or a table of a sweep."""

from __future__ import annotations

import glob
from pathlib import Path

from ckf.cli.arguments import Argument, Typed, Verb
from ckf.core.errors import CkfError, ConfigError, Problem


def call(typed: Typed) -> Path:
    """Write a report or render a table; return where it is."""
    if "table" in typed.values:
        return _table(typed)
    missing = [
        Problem(key, f"required, has no value (e.g. {key}={example})")
        for key, example in (("runs", "'outputs/*'"), ("out", "DIR"))
        if key not in typed.values
    ]
    if missing:
        raise ConfigError(missing)
    runs = [Path(path) for path in sorted(glob.glob(typed.values["runs"])) if (Path(path) / "metrics.json").is_file()]
    if not runs:
        raise CkfError(f"runs={typed.values['runs']}: no finished run there (a folder with metrics.json)")
    from ckf.report.build import report

    out = Path(typed.values["out"])
    report(runs, out)
    return out


def _table(typed: Typed) -> Path:
    if unused := [Problem(key, "not used with table=") for key in ("runs", "out") if key in typed.values]:
        raise ConfigError(unused)
    from ckf.report.sweep_table import render_table

    table = Path(typed.values["table"])
    render_table(table, Path(typed.values.get("outputs", "outputs")), typed.path("figures"))
    return table


VERB = Verb(
    "report",
    "write a report of run folders (runs=, out=), or render the table of a sweep file (table=)",
    call,
    arguments=(
        Argument("runs", "pattern of run folders", "'outputs/*'"),
        Argument("out", "folder for report.md and report.html", "DIR"),
        Argument("table", "a folder of experiments/ or a sweep file", "experiments/fusion"),
        Argument("outputs", "where the sweep's runs are (default: outputs)", "outputs"),
        Argument("figures", "also write the figures here, as PDF", "DIR"),
    ),
    config_dir=False,
    examples=("ckf report runs='outputs/*' out=report", "ckf report table=experiments/fusion/small.yaml"),
)
