"""Columns of a task's tables, and the digits of each metric."""

from __future__ import annotations

from ckf.metrics import protocol_tag
from ckf.report.table import Number

SOURCES = ("model", "text", "cf", "bias")


def task_columns(task: str, candidates: int | str) -> dict[str, str]:
    """Column title to metric name."""
    tag = protocol_tag(candidates)
    if task == "ctr":
        return {"AUC": "auc", "UAUC": "uauc", "log-loss": "logloss", "ECE": "ece", "rows": "n", "users": "uauc_users"}
    if task == "topk":
        names = ("hr@1", "hr@3", "hr@5", "ndcg@10", "mrr")
        return {**{f"{name.upper()} {tag}": f"{name}{tag}" for name in names}, "lists": "n"}
    return {"RMSE": "rmse", "MAE": "mae", "accuracy": "accuracy", "rows": "n"}


def metric_number(metric: str, value: float | None) -> Number:
    """Counts are whole, figures have four decimals."""
    return Number(value, form=".0f" if metric.split("@")[0] in ("n", "uauc_users") else ".4f")


def digits(metric: str) -> str:
    """Counts are whole, seconds and rates have a decimal, memory has two, figures have four."""
    if metric.endswith("parameters"):
        return ".0f"
    if metric.endswith(("_seconds", "per_second")):
        return ".1f"
    return ".2f" if metric.endswith("_gib") else ".4f"


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error or a cost."""
    if metric.endswith("per_second"):
        return False
    return any(word in metric for word in ("rmse", "mae", "logloss", "ece", "_seconds", "_gib", "_parameters"))
