"""Lines of a sweep's table: its rows, and the baselines that were measured with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ckf.config.sweep_file import Sweep
from ckf.metrics.identity import MODEL, MetricIdentity
from ckf.report.load_runs import COST
from ckf.report.published import Published, published_figure
from ckf.report.result_store import BASELINES, Result, data_name, row_name

BIAS = BASELINES["bias"]
Seeds = dict[int, dict[str, float]]
"""The metrics of each seed's run."""


@dataclass(frozen=True)
class TableRow:
    """A line: its name, the metrics of each seed, where they come from, and the results behind them.

    ``row`` has the line's swept values; that of a baseline what its rows have in common, nothing where it is of all.
    """

    name: str
    seeds: Seeds
    source: str
    results: tuple[Result, ...]
    row: dict[str, Any]

    @property
    def is_row(self) -> bool:
        """Whether it is a row of the sweep, not a baseline."""
        return self.source == "model"

    def values(self, metric: str) -> list[float]:
        """The values of a metric, one for each seed that has it."""
        return [metrics[metric] for metrics in self.seeds.values() if metric in metrics]

    def counts(self, metric: str) -> list[float]:
        """The rows or lists behind a metric, one for each seed that counts them."""
        one = MetricIdentity.parse(metric)
        return self.values(str(MetricIdentity(one.source, one.split, one.task, "n", one.slice)))

    def published(self, metric: str) -> Published | None:
        """The published row that this line repeats, if it has the metric."""
        if not (self.is_row and self.results):
            return None
        return published_figure(self.results[0].config, metric)


def table_lines(sweep: Sweep, results: Sequence[Result]) -> list[TableRow]:
    """Rows in the order of the sweep, then baselines; only those with one of the table's metrics."""
    by_row: dict[str, list[Result]] = {}
    for result in results:
        by_row.setdefault(row_name(result.row), []).append(result)
    rows = [
        TableRow(name, {r.seed: r.metrics for r in mine}, "model", tuple(mine), mine[0].row)
        for name, mine in by_row.items()
    ]
    lines = [*rows, *_baselines(rows, sweep.metrics)]
    return [line for line in lines if any(line.values(metric) for metric in sweep.metrics)]


def heading(metric: str) -> str:
    """A metric as a column's title."""
    one = MetricIdentity.parse(metric)
    source = "" if one.source in (MODEL, COST.rstrip("/")) else one.source
    where = "/".join(filter(None, (source, "" if one.split == "test" else one.split, one.task)))
    name = str(MetricIdentity(MODEL, "", "", one.metric, one.slice, one.protocol))
    difference, _, end = one.statistic.removeprefix("minus_").partition("_")
    if one.statistic in ("low", "high"):
        difference, end = "", one.statistic
    name += f" minus {BASELINES.get(difference, difference)}" if difference else ""
    name += {"": "", "low": ", lower 95%", "high": ", upper 95%"}.get(end, f", {end}")
    return f"{where}/{name}" if where else name


def same_data(lines: Sequence[TableRow]) -> bool:
    """Whether all rows are of the same data, so that each may be compared with every baseline."""
    return len({data_name(result.config) for line in lines for result in line.results}) == 1


def _baselines(rows: list[TableRow], shown: Sequence[str]) -> list[TableRow]:
    """One line for all rows whose baseline has the same figures in the columns ``shown``.

    A row of fewer tasks has fewer metrics of the same baseline. A row that is the CF model itself needs none.
    """
    lines = []
    for source, name in BASELINES.items():
        groups: list[tuple[Seeds, list[TableRow]]] = []
        for line in rows:
            seeds = {} if source == "cf" and _is_cf(line) else _of_source(line.seeds, source, shown)
            if seeds:
                _join(groups, seeds, line)
        for seeds, members in groups:
            common = _common(members) if len(groups) > 1 else {}
            of = f" ({_named(members, common, rows)})" if len(groups) > 1 else ""
            # the bias baseline does not depend on the seed
            kept = dict(list(seeds.items())[:1]) if source == "bias" and len(groups) == 1 else seeds
            results = tuple(result for line in members for result in line.results)
            lines.append(TableRow(name + of, kept, source, results, common))
    return lines


def _join(groups: list[tuple[Seeds, list[TableRow]]], seeds: Seeds, line: TableRow) -> None:
    """Put a row to the first group that agrees in every seed and metric, or to a group of its own."""
    for merged, members in groups:
        both = [(metrics, merged[seed]) for seed, metrics in seeds.items() if seed in merged]
        if all(metrics[key] == other[key] for metrics, other in both for key in metrics.keys() & other.keys()):
            for seed, metrics in seeds.items():
                merged[seed] = {**merged.get(seed, {}), **metrics}
            members.append(line)
            return
    groups.append((seeds, [line]))


def _common(members: Sequence[TableRow]) -> dict[str, Any]:
    """The swept values that all of these rows have."""
    return {key: value for key, value in members[0].row.items() if all(line.row[key] == value for line in members)}


def _named(members: Sequence[TableRow], common: dict[str, Any], rows: Sequence[TableRow]) -> str:
    """What these rows have in common where no other row has it, else their names."""
    alike = [line for line in rows if common and common.items() <= line.row.items()]
    return row_name(common) if len(alike) == len(members) else "; ".join(line.name for line in members)


def _is_cf(line: TableRow) -> bool:
    return any(result.config.method.name in ("cf_only", "bias") for result in line.results)


def _of_source(seeds: Seeds, source: str, shown: Sequence[str]) -> Seeds:
    keys = {key: str(MetricIdentity.parse(key).of(source)) for key in shown}
    found = {
        seed: {key: metrics[other] for key, other in keys.items() if other in metrics}
        for seed, metrics in seeds.items()
    }
    return {seed: metrics for seed, metrics in found.items() if metrics}
