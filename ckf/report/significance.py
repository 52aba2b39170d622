"""Which rows of a table stand out: order of the means, and paired tests against the best baseline over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t

from ckf.metrics import holm
from ckf.report.format import lower_is_better

Seeds = dict[int, dict[str, float]]  # seed -> metrics of its run
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
    at random is called. A single seed, or differences that do not vary, say nothing about seeds and are
    not judged.
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

    ``constant``: what ``other`` has for one seed stands for every seed.
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
