"""All metrics of one source's rows of a predictions file, task by task, and what resampling needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ckf.metrics.ranking import protocol_tag
from ckf.metrics.resampling import Statistic
from ckf.metrics.slices import fine_slices, warmth_slices
from ckf.tasks import BUILT_IN, Task
from ckf.tasks.base import Sample
from ckf.tasks.topk import ONE_TITLE

if TYPE_CHECKING:
    import pandas as pd  # its import takes half a second, and `ckf --help` comes through here


def compute_metrics(
    predictions: pd.DataFrame, split: str, candidates: int | str, tasks: Mapping[str, Task] = BUILT_IN
) -> dict[str, float]:
    """Flat metrics (``<split>/<task>/<metric>[@slice]``) of one source's rows of a predictions file.

    A NaN score is an unusable answer: it is counted (``unusable``) and scored as the worst one.
    Values that do not exist (AUC of one class, an empty slice) are left out; ``n`` (rows or lists)
    and ``users`` are always there. ``candidates`` names the protocol of ranking metrics. Quartiles,
    coverage and popularity need the columns ``user_quartile``, ``item_quartile``, ``item_n_train``
    and ``catalogue``, and are left out without them.
    """
    metrics: dict[str, float] = {}
    tag = protocol_tag(candidates)
    for name, rows in predictions.groupby("task", sort=False):
        task = tasks[str(name)]
        metrics[f"{split}/{task.name}/unusable"] = int(rows["score"].isna().sum())
        rows = with_worst_scores(rows, task)
        units = task.sample(rows).rows
        found = {(metric, ""): value for metric, value in task.metrics_of_rows(rows, tag).items()}
        for part, members in warmth_slices(units).items():
            found.update({(metric, part): v for metric, v in _metrics_of(task, members, tag).items()})
        for part, members in fine_slices(units).items():
            found.update({(metric, part): v for metric, v in _metrics_of(task, members, tag, few=True).items()})
        metrics.update(
            {f"{split}/{task.name}/{m}{part}": value for (m, part), value in found.items() if value == value}
        )
    return metrics


def protocol_metrics(
    predictions: pd.DataFrame, split: str, protocol: str, tasks: Mapping[str, Task] = BUILT_IN
) -> dict[str, float]:
    """Metrics of one source's lists under a further protocol; counts carry its tag too, e.g. ``n[full]``.

    ``unusable`` counts lists without a usable answer.
    """
    tag = protocol_tag(protocol)
    found = compute_metrics(predictions, split, protocol, tasks)
    kept = {name: value for name, value in found.items() if tag in name}
    for task, rows in predictions.groupby("task", sort=False):
        key = f"{split}/{task}/"
        kept.update({f"{key}{name}{tag}": found[f"{key}{name}"] for name in ("n", "users")})
        kept[f"{key}unusable{tag}"] = int(rows.loc[rows["score"].isna(), "example_id"].nunique())
    return kept


def with_worst_scores(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Give every unusable answer of a task the worst score and an empty answer."""
    missing = rows["score"].isna()
    if not missing.any():
        return rows
    scores = task.worst_scores(rows["label"].to_numpy(dtype=float), rows["score"].to_numpy(dtype=float))
    return rows.assign(score=scores, answer=np.where(missing, "", rows["answer"].astype(str)))


def _metrics_of(task: Task, units: pd.DataFrame, tag: str, *, few: bool = False) -> dict[str, float]:
    """Metrics of rows, or of lists (one row each); ``few``: the main ones alone."""
    found: dict[str, float] = {"n": len(units), "users": int(units["user"].nunique())}
    if units.empty:
        return found
    sample = Sample(units)
    for metric in task.metrics:
        if (metric.main or not few) and not (metric.needs_order and metric.tagged and tag in ONE_TITLE):
            found[metric.key(tag)] = metric.value(sample)
    return found


def task_statistics(
    task: Task, rows: pd.DataFrame, candidates: int | str, only: str | None = None
) -> tuple[dict[str, Statistic], int]:
    """Metrics of one task of one source as functions of user counts (``resample``), and the number of users.

    Users are numbered in ascending order, so two sources of the same examples pair up. ``only`` names
    one metric; without it all are there that can be resampled.
    """
    sample, tag = task.sample(with_worst_scores(rows, task)), protocol_tag(candidates)
    found: dict[str, Statistic] = {}
    for metric in task.metrics:
        if metric.statistic is not None and only in (None, metric.key(tag)):
            statistic = metric.statistic(sample)
            if statistic is not None:
                found[metric.key(tag)] = statistic
    return found, sample.n_users
