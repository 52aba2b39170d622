"""Columns of a task's tables, and the digits of each metric."""

from __future__ import annotations

from collections.abc import Mapping

from ckf.metrics import protocol_tag
from ckf.report.load_runs import COST
from ckf.report.table import Number
from ckf.tasks import BUILT_IN, Task, find_metric

SOURCES = ("model", "text", "cf", "bias")


def task_columns(task: Task, candidates: int | str) -> dict[str, str]:
    """Column title to metric name."""
    return task.columns(protocol_tag(candidates))


def metric_number(metric: str, value: float | None) -> Number:
    """Counts are whole, figures have four decimals."""
    known = find_metric(metric)
    return Number(value, form=f".{known.decimals if known else 4}f")


def digits(metric: str) -> str:
    """Counts are whole, seconds and rates have a decimal, memory has two, figures have four."""
    if metric.endswith("parameters"):
        return ".0f"
    if metric.endswith(("_seconds", "per_second")):
        return ".1f"
    return ".2f" if metric.endswith("_gib") else ".4f"


def lower_is_better(metric: str, tasks: Mapping[str, Task] = BUILT_IN) -> bool:
    """Whether less of a metric is better: by its task's direction; of costs, all but rates."""
    if metric.startswith(COST):
        return not metric.endswith("per_second")
    known = find_metric(metric, tasks)
    return known is not None and known.direction == "lower"
