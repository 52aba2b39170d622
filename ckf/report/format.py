"""Figures as text, and the table that holds them; what every page of a report is made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ckf.metrics import protocol_tag
from ckf.report.cost import COST
from ckf.tasks import BUILT_IN, Task, find_metric

MISSING = "–"
SOURCES = ("model", "text", "cf", "bias")
UNKNOWN_ORIGIN = "evaluate/cf_training_data_unknown"
UNKNOWN_STAMP = "CF training data unknown: leakage cannot be excluded"
"""The metric that marks a run whose CF vectors came without their training rows, and what is said of it."""


@dataclass
class Table:
    """A table with its title; cells are text already.

    ``marks`` say what stands out, by row and column: ``best``, ``second``, ``better`` and ``worse`` (than
    the best baseline, significantly). How a mark is shown is the format's business.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""
    marks: dict[tuple[int, int], set[str]] = field(default_factory=dict)


def task_columns(task: Task, candidates: int | str) -> dict[str, str]:
    """Column title to metric name."""
    return task.columns(protocol_tag(candidates))


def number(value: float | None, form: str = ".4f") -> str:
    """A figure as text: four decimals unless told otherwise; a dash where nothing was measured."""
    return MISSING if value is None or math.isnan(value) else f"{value:{form}}"


def metric_number(metric: str, value: float | None) -> str:
    """Counts are whole, figures have four decimals."""
    known = find_metric(metric)
    return number(value, f".{known.decimals if known else 4}f")


def mean_sd(values: Sequence[float | None], metric: str = "") -> str:
    """Mean ± standard deviation of what was measured; a single value stands alone, gaps are said."""
    form = _form(metric)
    found = [value for value in values if value is not None and not math.isnan(value)]
    gaps = f" ({len(found)} of {len(values)})" if 0 < len(found) < len(values) else ""
    if len(found) < 2:
        return number(found[0] if found else None, form) + gaps
    mean, sd = statistics.mean(found), statistics.stdev(found)
    return f"{mean:{form}}{gaps}" if form == ".0f" and sd == 0 else f"{mean:{form}} ± {sd:{form}}{gaps}"


def _form(metric: str) -> str:
    """Counts are whole, seconds and rates have a decimal, memory has two, figures have four."""
    if metric.endswith("parameters"):
        return ".0f"
    if metric.endswith(("_seconds", "per_second")):
        return ".1f"
    return ".2f" if metric.endswith("_gib") else ".4f"


def lower_is_better(metric: str, tasks: Mapping[str, Task] = BUILT_IN) -> bool:
    """Whether less of a metric is better: as its task says, or of what a run cost, all but a rate."""
    if metric.startswith(COST):
        return not metric.endswith("per_second")
    known = find_metric(metric, tasks)
    return known is not None and known.direction == "lower"
