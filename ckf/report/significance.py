"""Rows of a sweep compared seed by seed: tests against the best baseline, differences from text alone and a control."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t

from ckf.config.sweep_file import Sweep
from ckf.metrics import holm
from ckf.report.format import lower_is_better
from ckf.report.result_store import row_name
from ckf.report.table_rows import Seeds, TableRow

SIGNIFICANCE = (
    "\\* better, † worse than the best baseline of the column: paired t-test over seeds, p < 0.05 after Holm's "
    "correction over the table. The bias baseline, which draws nothing at random, counts as the same for every seed."
)


def ranking(lines: Sequence[Seeds], metric: str) -> list[int]:
    """Indices of the lines that have a metric, best mean first."""
    means = {}
    for index, seeds in enumerate(lines):
        values = _values(seeds, metric)
        if values:
            means[index] = statistics.mean(values) * (1 if lower_is_better(metric) else -1)
    return sorted(means, key=lambda index: means[index])


def mark_significance(
    lines: Sequence[tuple[str, Seeds]], rows: set[str], metrics: Sequence[str], seedless: str
) -> dict[tuple[int, int], str]:
    """``better`` or ``worse`` by line and metric: each row against the baseline of the best mean, paired by seed.

    ``rows`` names the lines that are not baselines; ``seedless`` is how the baseline that draws nothing
    at random is called. A single seed, or differences that do not vary, are not tested.
    """
    tested: dict[tuple[int, int], tuple[float, float]] = {}
    baselines = [index for index, (name, _) in enumerate(lines) if name not in rows]
    for column, metric in enumerate(metrics):
        order = ranking([lines[index][1] for index in baselines], metric)
        if not order:
            continue
        rival, best = lines[baselines[order[0]]]
        for place, (name, seeds) in enumerate(lines):
            if name in rows:
                mean, p = paired_t(seeds, best, metric, constant=rival.startswith(seedless))
                if not math.isnan(p):
                    tested[place, column] = (-mean if lower_is_better(metric) else mean, p)
    corrected = holm([p for _, p in tested.values()])
    found = zip(tested.items(), corrected, strict=True)
    return {cell: "better" if ahead > 0 else "worse" for (cell, (ahead, _)), p in found if p < 0.05}


def paired_t(mine: Seeds, other: Seeds, metric: str, *, constant: bool = False) -> tuple[float, float]:
    """Mean difference over seeds and its two-sided p-value; NaN below two pairs or without variation.

    ``constant``: what ``other`` has for one seed is taken for every seed.
    """
    fixed = next(iter(other.values())).get(metric) if constant else None
    pairs = [(found.get(metric), other.get(seed, {}).get(metric, fixed)) for seed, found in mine.items()]
    found = [a - b for a, b in pairs if a is not None and b is not None]
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    if spread < 1e-12:
        return math.nan, math.nan
    mean = statistics.mean(found)
    return mean, float(2 * t.sf(abs(mean) / (spread / math.sqrt(len(found))), len(found) - 1))


def _values(seeds: Seeds, metric: str) -> list[float]:
    return [metrics[metric] for metrics in seeds.values() if metric in metrics]


@dataclass(frozen=True)
class Difference:
    """Mean difference of a row from another line over the seeds of both, with its 95% t-interval."""

    row: str
    other: str
    mean: float
    half: float
    seeds: int

    def __str__(self) -> str:
        ends = f"[{self.mean - self.half:+.4f}, {self.mean + self.half:+.4f}]"
        return f"{self.mean:+.4f} {ends} (95% t-interval, paired over {self.seeds} seeds)"


def control_line(sweep: Sweep, lines: Sequence[TableRow]) -> TableRow | None:
    """The row that the sweep calls its control."""
    name = row_name({key: sweep.control[key] for key in sweep.rows if key in sweep.control})
    return next((line for line in lines if line.is_row and line.name == name), None)


def difference(row: TableRow, other_name: str, metric: str, other: dict[int, float | None]) -> Difference | None:
    """A row minus another, paired by seed; None below two pairs."""
    pairs = [(metrics.get(metric), other.get(seed)) for seed, metrics in row.seeds.items()]
    found = [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]
    if len(found) < 2:
        return None
    half = float(t.ppf(0.975, len(found) - 1)) * statistics.stdev(found) / math.sqrt(len(found))
    return Difference(row.name, other_name, statistics.mean(found), half, len(found))


def from_text(lines: Sequence[TableRow], metric: str) -> list[Difference]:
    """Each row minus its own text-only baseline."""
    found = []
    for line in lines:
        if line.is_row:
            text = {seed: metrics.get(f"text/{metric}") for seed, metrics in line.seeds.items()}
            found.append(difference(line, "text-only", metric, text))
    return [one for one in found if one is not None]


def from_control(sweep: Sweep, lines: Sequence[TableRow], metric: str) -> list[Difference]:
    """Each row minus the control."""
    control = control_line(sweep, lines)
    if control is None:
        return []
    rival = {seed: metrics.get(metric) for seed, metrics in control.seeds.items()}
    found = [difference(line, control.name, metric, rival) for line in lines if line.is_row and line is not control]
    return [one for one in found if one is not None]
