"""A sweep as one self-contained page, readable offline; where each figure comes from is inside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

from ckf.config.sweep_file import Sweep
from ckf.core.errors import CkfError
from ckf.metrics.identity import MetricIdentity
from ckf.report.compare_runs import prompts_of
from ckf.report.format import metric_number
from ckf.report.load_runs import COST, Run, load_predictions
from ckf.report.plots import reliability_curves, training_curves
from ckf.report.result_store import Result
from ckf.report.run_tables import binary_task, calibration
from ckf.report.table import Table, marks_of, number, significance_signs
from ckf.report.table_rows import TableRow, heading
from ckf.tasks.measure import with_worst_scores

_SHOWN = 6
"""Prompts of each run on the page; the run's own report and predictions have all."""
_CURVES = 12
"""Runs whose training curves are drawn at most, the first seed of each row before the second."""
_NAMES = {
    "dots": "rows and seeds", "curve": "curve", "bars": "differences", "slices": "slices",
    "heatmap": "interference", "cost": "cost against quality",
}  # fmt: skip


def sweep_page(
    page: Path, sweep: Sweep, table: Table, lines: Sequence[TableRow], results: Sequence[Result], missing: list[str],
    figures: dict[str, str],
) -> str:  # fmt: skip
    """The page of a sweep, to be written to ``page``: its table, a sortable table of runs, figures and prompts."""
    drawn = {_NAMES[kind]: picture for kind, picture in figures.items()}
    environment = Environment(loader=PackageLoader("ckf.report", "."), autoescape=select_autoescape(default=True))
    return environment.get_template("sweep.html.j2").render(
        sweep=sweep,
        table=_cells(table, sweep, lines),
        groups={
            key: list(dict.fromkeys(str(line.row[key]) for line in lines if key in line.row)) for key in sweep.rows
        },
        provenance=[_provenance(line, sweep) for line in lines],
        runs=_runs(sweep, results, page.parent),
        run_header=[*sweep.rows, "seed", *map(heading, sweep.metrics)],
        figures={**drawn, **_run_figures(lines)},
        prompts=_prompts(results),
        missing=missing,
        notes=[line.replace("\\*", "*") for line in (table.note, *table.caveats) if line],
    )


def _cells(table: Table, sweep: Sweep, lines: Sequence[TableRow]) -> dict[str, Any]:
    """Header and rows; each row with its group values, each cell with its marks."""
    rows = []
    for r, row in enumerate(table.rows):
        cells = []
        for c, cell in enumerate(row):
            css = " ".join(sorted(marks_of(cell) & {"best", "second"}))
            sign, traced = significance_signs(cell), 0 < c <= len(sweep.metrics)
            cells.append({"text": str(cell), "sign": sign, "css": css, "traced": traced})
        rows.append({"cells": cells, "row": {key: str(value) for key, value in lines[r].row.items()}})
    return {"header": table.header, "rows": rows}


def _provenance(line: TableRow, sweep: Sweep) -> dict[str, Any]:
    """The origin of a line: a run for each seed, with commit, data and command; its figures by metric."""
    keys = {heading(metric): str(MetricIdentity.parse(metric).of(line.source)) for metric in sweep.metrics}
    if line.is_row:
        keys = {heading(metric): metric for metric in sweep.metrics}
    runs = [
        {
            "run": result.run.path.name if result.run else result.key,
            "seed": result.seed,
            "commit": result.provenance.commit,
            "data": result.provenance.data,
            "command": result.provenance.command,
            "values": {name: number(result.metrics.get(key)) for name, key in keys.items()},
        }
        for result in line.results
    ]
    return {"name": line.name, "runs": runs}


def _runs(sweep: Sweep, results: Sequence[Result], page: Path) -> list[dict[str, Any]]:
    """A row for each run: swept values, seed, metrics, and links to what lies in its folder."""
    rows = []
    for result in results:
        metrics = [result.metrics.get(metric) for metric in sweep.metrics]
        links = {}
        if result.run is not None:
            for name, file in (("report", "report.html"), ("predictions", "predictions/test.parquet")):
                if (result.run.path / file).is_file():
                    links[name] = Path(os.path.relpath(result.run.path / file, page)).as_posix()
        shown = [
            str(metric_number("n" if m.startswith(COST) else m, v)) for m, v in zip(sweep.metrics, metrics, strict=True)
        ]
        rows.append(
            {
                "row": {key: str(value) for key, value in result.row.items()},
                "cells": [*map(str, result.row.values()), str(result.seed), *shown],
                "key": result.key,
                "links": links,
                "command": result.provenance.command,
            }
        )
    return rows


def _run_figures(lines: Sequence[TableRow]) -> dict[str, str]:
    """Training curves of the runs that are here, first seeds first, and the reliability of the first with clicks."""
    placed = [(place, result.run) for line in lines if line.is_row for place, result in enumerate(line.results)]
    runs = [run for _, run in sorted(placed, key=lambda pair: pair[0]) if run is not None]
    found = {"training": training_curves(runs[:_CURVES])} if runs else {}
    for run in runs:
        try:
            curves = calibration(run, "test")
        except CkfError:
            continue
        if curves:
            found["reliability"] = reliability_curves(curves, f"ctr, test, {run.path.name}")
            break
    return {name: picture for name, picture in found.items() if picture}


def _prompts(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For each run that is here a few test prompts: the surest right and the surest wrong clicks."""
    found = []
    for result in results:
        if result.run is not None and (shown := _examples(result.run)):
            found.append({"key": result.key, "name": result.run.path.name, "examples": shown})
    return found


def _examples(run: Run) -> list[dict[str, str]]:
    """Clicks of the test split by how far the answer is from the label; empty where files are missing."""
    try:
        rows = load_predictions(run, "test")
    except CkfError:
        return []
    task = binary_task(run)
    if task is None:
        return []
    mine = with_worst_scores(rows[(rows["source"] == "model") & (rows["task"] == task.name)], task)
    if mine.empty:
        return []
    mine = mine.assign(error=(mine["score"] - mine["label"]).abs()).sort_values(["error", "example_id"], kind="stable")
    chosen = pd.concat([mine.head(_SHOWN // 2), mine.tail(_SHOWN // 2)])
    prompts = prompts_of(run, list(chosen["example_id"]))
    return [
        {
            "id": str(name),
            "prompt": prompts.get(str(name), "the run's artifacts are missing"),
            "label": "Yes" if label > 0 else "No",
            "score": number(float(score)),
        }
        for name, label, score in zip(*(chosen[key] for key in ("example_id", "label", "score")), strict=True)
    ]
