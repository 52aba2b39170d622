"""Lines of a sweep's table: its rows, and the baselines that were measured beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ckf.report.cost import COST
from ckf.report.published import Published, published_figure
from ckf.report.results import Result, data_name
from ckf.report.significance import Seeds
from ckf.sweep import VARIANT, Sweep

BASELINES = {"text": "text-only", "cf": "CF model", "floor": "bias floor"}
FLOOR = BASELINES["floor"]


@dataclass(frozen=True)
class Line:
    """A line: its name, the metrics of each seed, where they come from, and the results behind them.

    ``row`` has the line's swept values; a baseline that is the same for all rows has none.
    """

    name: str
    seeds: Seeds
    source: str
    results: tuple[Result, ...]
    row: dict[str, Any]

    @property
    def is_row(self) -> bool:
        """Whether it is a row of the sweep and no baseline."""
        return self.source == "model"

    def values(self, metric: str) -> list[float]:
        """What the seeds have of a metric."""
        return [metrics[metric] for metrics in self.seeds.values() if metric in metrics]

    def published(self, metric: str) -> Published | None:
        """The published row that this line repeats, if it has the metric."""
        if not (self.is_row and self.results):
            return None
        return published_figure(self.results[0].config, metric)


def table_lines(sweep: Sweep, results: Sequence[Result]) -> list[Line]:
    """Rows in the order of the sweep, then baselines; only those with one of the table's metrics."""
    by_row: dict[str, list[Result]] = {}
    for result in results:
        by_row.setdefault(row_name(result.row), []).append(result)
    rows = [
        Line(name, {r.seed: r.metrics for r in mine}, "model", tuple(mine), mine[0].row)
        for name, mine in by_row.items()
    ]
    lines = [*rows, *_baselines(rows)]
    return [line for line in lines if any(line.values(metric) for metric in sweep.metrics)]


def row_name(row: dict[str, Any]) -> str:
    """How a row is called: its swept values, or its variant."""
    return ", ".join(str(value) if key == VARIANT else f"{key}={value}" for key, value in row.items())


def heading(metric: str) -> str:
    """A metric as a column's title."""
    short = metric.removeprefix("test/").removeprefix(COST)
    return short.replace("_minus_text", " minus text-only").replace("_low", ", lower 95%")


def same_data(lines: Sequence[Line]) -> bool:
    """Whether all rows are of the same data, so that each may be compared with every baseline."""
    return len({data_name(result.config) for line in lines for result in line.results}) == 1


def _baselines(rows: list[Line]) -> list[Line]:
    """One line where all rows have the same baseline, else one line for each row.

    A row of fewer tasks has fewer metrics of the same baseline. A row that is the CF model itself needs none.
    """
    lines = []
    for source, name in BASELINES.items():
        mine = {line.name: _of_source(line.seeds, source) for line in rows if source != "cf" or not _is_cf(line)}
        merged: Seeds = {}
        for seeds in mine.values():
            for seed, metrics in seeds.items():
                merged[seed] = {**merged.get(seed, {}), **metrics}
        if any(metrics.items() - merged[seed].items() for seeds in mine.values() for seed, metrics in seeds.items()):
            lines += [
                Line(f"{name} ({line.name})", mine[line.name], source, line.results, line.row)
                for line in rows
                if mine.get(line.name)
            ]
        elif merged:
            # counting draws nothing at random: the same for every seed
            seeds = dict(list(merged.items())[:1]) if source == "floor" else merged
            results = tuple(r for line in rows for r in line.results if mine.get(line.name))
            lines.append(Line(name, seeds, source, results, {}))
    return lines


def _is_cf(line: Line) -> bool:
    return any(result.config.method.name == "cf_only" for result in line.results)


def _of_source(seeds: Seeds, source: str) -> Seeds:
    found = {
        seed: {key.removeprefix(f"{source}/"): metrics[key] for key in metrics if key.startswith(f"{source}/")}
        for seed, metrics in seeds.items()
    }
    return {seed: metrics for seed, metrics in found.items() if metrics}
