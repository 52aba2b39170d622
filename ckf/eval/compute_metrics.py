"""From the predictions of every source to flat metrics, intervals and paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ckf.config.schema import ExperimentConfig
from ckf.metrics import (
    auc,
    compare,
    holm,
    intervals,
    protocol_tag,
    quartiles,
)
from ckf.tasks import Task
from ckf.tasks.measure import compute_metrics, protocol_metrics, task_statistics, with_worst_scores

MODEL, TEXT, CF, BIAS = "model", "text", "cf", "bias"


def with_counts(everything: pd.DataFrame, dataset: Path) -> pd.DataFrame:
    """Add what the slices need, so that a predictions file is enough to measure again.

    ``user_n_train``, ``item_n_train``: rows of the user and the item in training; ``user_quartile``,
    ``item_quartile``: among all of the dataset's (1 fewest, 4 most); ``catalogue``: its items. A user
    or item that the dataset does not know counts as never seen.
    """
    for kind in ("user", "item"):
        table = pd.read_parquet(dataset / f"{kind}s.parquet", columns=[kind, "n_train"])
        table["quartile"] = quartiles(table["n_train"].to_numpy())
        rows = everything[[kind]].merge(table, on=kind, how="left", validate="many_to_one")
        everything[f"{kind}_n_train"] = rows["n_train"].fillna(0).astype("int32").to_numpy()
        everything[f"{kind}_quartile"] = rows["quartile"].fillna(1).astype("int8").to_numpy()
    everything["catalogue"] = np.int32(len(table))
    return everything


def metrics_of(everything: pd.DataFrame, split: str, exp: ExperimentConfig) -> dict[str, float]:
    """Metrics and headline intervals of every source (others than the model below their names), and differences."""
    metrics: dict[str, float] = {}
    for source, rows in everything.groupby("source", sort=False):
        prefix = "" if source == MODEL else f"{source}/"
        found = compute_metrics(rows, split, exp.ranking, exp.task_set)
        found.update(headline_intervals(rows, split, exp))
        metrics.update({f"{prefix}{key}": value for key, value in found.items()})
    return {**metrics, **paired_differences(everything, split, exp)}


def further_metrics(rows: pd.DataFrame, split: str, protocol: str, tasks: Mapping[str, Task]) -> dict[str, float]:
    """Metrics of every source under a further protocol, whose tag is part of every name."""
    metrics: dict[str, float] = {}
    for source, part in rows.groupby("source", sort=False):
        prefix = "" if source == MODEL else f"{source}/"
        metrics.update(
            {f"{prefix}{key}": value for key, value in protocol_metrics(part, split, protocol, tasks).items()}
        )
    return metrics


def headline_intervals(rows: pd.DataFrame, split: str, exp: ExperimentConfig) -> dict[str, float]:
    """Each task's headline metric: ``<metric>_low`` and ``_high`` (95%, bootstrap over users) and ``_units``.

    ``_units`` is the number of users that it rests on; below `LEAST_USERS` there is no interval.
    """
    found: dict[str, float] = {}
    for task, part in rows.groupby("task", sort=False):
        mine = exp.task_set[str(task)]
        name = mine.headline.key(protocol_tag(exp.ranking))
        statistics, users = task_statistics(mine, part, exp.ranking, only=name)
        low, high = intervals(statistics, users, exp.evaluate.bootstrap_samples, 0)[name]
        figures = {"low": low, "high": high, "units": statistics[name].units}
        found.update({f"{split}/{task}/{name}_{end}": value for end, value in figures.items() if value == value})
    return found


def paired_differences(everything: pd.DataFrame, split: str, exp: ExperimentConfig) -> dict[str, float]:
    """Each task's headline metric of this model minus that of each other source, on the same examples.

    ``<metric>_minus_<source>`` with ``_low``, ``_high`` (95%, paired bootstrap over users), ``_p``, and
    ``_p_holm``: corrected over all of the split's differences. ``_units``: the users behind it. What does not
    exist (a difference of AUC with one class, a test of fewer than `LEAST_USERS` users) is left out.
    """
    found: dict[str, float] = {}
    for task, rows in everything.groupby("task", sort=False):
        by_source = {str(source): part for source, part in rows.groupby("source", sort=False)}
        for other in (TEXT, CF, BIAS):
            if MODEL in by_source and other in by_source:
                found.update(_difference(by_source, exp.task_set[str(task)], other, split, exp))
    tested = [key for key in found if key.endswith("_p")]
    for key, p in zip(tested, holm([found[key] for key in tested]), strict=True):
        found[f"{key}_holm"] = p
    return found


def _difference(
    by_source: Mapping[str, pd.DataFrame], task: Task, other: str, split: str, exp: ExperimentConfig
) -> dict[str, float]:
    name, candidates = task.headline.key(protocol_tag(exp.ranking)), exp.ranking
    model = by_source[MODEL]
    a, users = task_statistics(task, model, candidates, only=name)
    b, _ = task_statistics(task, align_predictions(model, by_source[other]), candidates, only=name)
    (c,) = compare(a, b, users, exp.evaluate.bootstrap_samples, 0)
    key = f"{split}/{task.name}/{name}_minus_{other}"
    figures = {key: c.difference, f"{key}_low": c.low, f"{key}_high": c.high, f"{key}_p": c.p, f"{key}_units": c.units}
    return {name: value for name, value in figures.items() if value == value}


def align_predictions(rows: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The answers of ``other`` to the examples of ``rows``; one that it did not give is an unusable answer."""
    key = ["example_id", "item"]
    answers = other[[*key, "score", "answer"]]
    return rows.drop(columns=["score", "answer"]).merge(answers, on=key, how="left", validate="one_to_one")


def oracle_metrics(dataset: Path, everything: pd.DataFrame, split: str, tasks: Mapping[str, Task]) -> dict[str, float]:
    """AUC of the planted truth, of the best reader of text and of counting (synthetic data only).

    ``auc_share`` is the AUC of the first source, the model, over that of the truth: 1 is the optimum.
    """
    path = dataset / "known.parquet"
    if not path.is_file():
        return {}
    metrics: dict[str, float] = {}
    first = everything[everything["source"] == everything["source"].iloc[0]]
    for name in (name for name in first["task"].unique() if tasks[name].has_oracle):
        known = first[first["task"] == name].merge(pd.read_parquet(path), on=["user", "item"], validate="one_to_one")
        label, key = known["label"].to_numpy(), f"oracle/{split}/{name}/auc"
        found = {f"{key}_{part}": auc(label, known[part].to_numpy()) for part in ("truth", "text", "counting")}
        scores = with_worst_scores(known, tasks[name])["score"].to_numpy(dtype=float)
        metrics |= {**found, f"{key}_share": auc(label, scores) / found[f"{key}_truth"]}
    return metrics
