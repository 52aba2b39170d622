"""Two runs compared: their settings, their metrics, and the answers that differ most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ckf.core.artifact_store import to_jsonable
from ckf.core.errors import ArtifactError
from ckf.metrics import Comparison, compare, holm
from ckf.report.load_runs import Run, load_predictions, same_protocol
from ckf.tasks import Task
from ckf.tasks.measure import task_statistics, with_worst_scores

_NO_SETTING = ("paths", "overwrite", "name")


@dataclass(frozen=True)
class TaskComparison:
    """One task of one split: every paired metric, with p-values corrected over the whole comparison."""

    split: str
    task: str
    rows: int
    comparison: Comparison
    p_holm: float
    p_wilcoxon_holm: float


@dataclass(frozen=True)
class Change:
    """A user or an item whose scores changed most, with the examples that changed most of all.

    ``id`` is ckf's, ``raw_id`` the source's; "" where the predictions do not have it.
    """

    split: str
    task: str
    kind: str
    id: int
    raw_id: str
    mean_change: float
    rows: int
    example_ids: list[str]
    of_ranks: bool


def config_differences(a: Run, b: Run) -> list[tuple[str, Any, Any]]:
    """Every setting in which two runs differ, by its dotted key; None where one has no such setting."""
    mine, other = (_flat(to_jsonable(run.config)) for run in (a, b))
    keys = [*mine, *(key for key in other if key not in mine)]
    keys = [key for key in keys if key.split(".")[0] not in _NO_SETTING]
    return [(key, mine.get(key), other.get(key)) for key in keys if mine.get(key) != other.get(key)]


def paired_predictions(a: Run, b: Run, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """This model's predictions of both runs on one split, row by row of the same example and item.

    Raises:
        ArtifactError: other examples, other candidates or other labels.
    """
    key = ["task", "example_id", "item"]
    frames = []
    for run in (a, b):
        rows = load_predictions(run, split)
        rows = rows[rows["source"] == "model"].sort_values(key, kind="stable").reset_index(drop=True)
        if rows.duplicated(key).any():
            raise ArtifactError(f"{run.path}: predictions/{split}.parquet names an example's item twice")
        frames.append(rows)
    one, two = frames
    if len(one) != len(two) or not one[key].equals(two[key]):
        ids = [set(rows["example_id"]) for rows in frames]
        shared = f"{len(ids[0])} and {len(ids[1])} examples, {len(ids[0] & ids[1])} of them shared"
        if ids[0] == ids[1]:
            shared = "the same examples, other candidates"
        raise ArtifactError(f"{a.path} and {b.path}: {split} predictions of another example set ({shared})")
    if not one["label"].equals(two["label"]):
        raise ArtifactError(f"{a.path} and {b.path}: {split} predictions differ in their labels")
    return one, two


def shared_splits(a: Run, b: Run) -> list[str]:
    """Splits that both runs scored.

    Raises:
        ArtifactError: there is none, or the runs are of different protocols.
    """
    same_protocol([a, b])
    splits = [split for split in a.splits if split in b.splits]
    if not splits:
        raise ArtifactError(
            f"{a.path} and {b.path}: no split that both scored ({', '.join(a.splits)}; {', '.join(b.splits)})"
        )
    return splits


def compare_runs(a: Run, b: Run, samples: int) -> list[TaskComparison]:
    """Every paired metric of every shared task and split: ``a`` minus ``b``, Holm-corrected over all of them.

    Raises:
        ArtifactError: different protocols or example sets, or no task in common.
    """
    found: list[tuple[str, str, int, Comparison]] = []
    candidates, tasks = a.config.ranking, a.config.task_set
    for split in shared_splits(a, b):
        one, two = paired_predictions(a, b, split)
        for task, rows in one.groupby("task", sort=False):
            mine, users = task_statistics(tasks[str(task)], rows, candidates)
            other, _ = task_statistics(tasks[str(task)], two.loc[rows.index], candidates)
            units = rows["example_id"].nunique()
            found += [(split, str(task), units, c) for c in compare(mine, other, users, samples, 0)]
    bootstrap, signed = _corrected(found, "p"), _corrected(found, "p_wilcoxon")
    return [TaskComparison(*f, p, q) for f, p, q in zip(found, bootstrap, signed, strict=True)]


def _corrected(found: list[tuple[str, str, int, Comparison]], name: str) -> list[float]:
    """Holm's correction over what can differ: HR@10 of ten candidates is 1 in both and tests nothing (p = 1)."""
    same = [c.low == c.high == c.difference == 0 for *_, c in found]
    corrected = holm([math.nan if equal else getattr(c, name) for equal, (*_, c) in zip(same, found, strict=True)])
    return [1.0 if equal else p for equal, p in zip(same, corrected, strict=True)]


def largest_changes(a: Run, b: Run, count: int) -> list[Change]:
    """For each task, the users and items whose scores differ most on average (absolute, a against b).

    topk: of the target's rank, since log-probabilities of two models have no common zero.
    """
    found = []
    for split in shared_splits(a, b):
        one, two = paired_predictions(a, b, split)
        for name, rows in one.groupby("task", sort=False):
            task = a.config.task_set[str(name)]
            units = _changes(task, rows, two.loc[rows.index])
            for kind in ("user", "item"):
                found += [Change(split, task.name, kind, *parts, task.lists) for parts in _largest(units, kind, count)]
    return found


def _changes(task: Task, a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """One row for each example: user, item, change and its size."""
    a, b = with_worst_scores(a, task), with_worst_scores(b, task)
    if task.lists:
        ranks = [_rank_of_targets(rows) for rows in (a, b)]
        units = a[a["label"] > 0].set_index("example_id")[_ids(a)]
        units["change"] = ranks[0] - ranks[1]
        units = units.reset_index()
    else:
        units = a[["example_id", *_ids(a)]].assign(change=a["score"] - b["score"])
    return units.assign(size=units["change"].abs())


def _ids(rows: pd.DataFrame) -> list[str]:
    """The columns of ids that predictions have."""
    return [name for name in ("user", "item", "raw_user", "raw_item") if name in rows]


def _rank_of_targets(rows: pd.DataFrame) -> pd.Series:
    """Rank of each list's target, the last of its ties, by example id."""
    target = rows[rows["label"] > 0].set_index("example_id")["score"]
    ahead = rows["score"].to_numpy() >= target.reindex(rows["example_id"]).to_numpy()
    return pd.Series(ahead, index=rows["example_id"]).groupby(level=0).sum().astype(float)


def _largest(units: pd.DataFrame, kind: str, count: int) -> list[tuple[int, str, float, int, list[str]]]:
    """Largest mean change first; equal ones by id."""
    by = units.groupby(kind).agg(size=("size", "mean"), change=("change", "mean"), rows=("change", "size"))
    by = by[by["size"] > 0].sort_values("size", ascending=False, kind="stable").head(count)
    found = []
    for name, change, rows in zip(by.index, by["change"], by["rows"], strict=True):
        mine = units[units[kind] == name].sort_values(["size", "example_id"], ascending=[False, True])
        raw = str(mine[f"raw_{kind}"].iloc[0]) if f"raw_{kind}" in mine else ""
        found.append((int(name), raw, float(change), int(rows), list(mine["example_id"].head(3))))
    return found


def prompts_of(run: Run, example_ids: list[str]) -> dict[str, str]:
    """Titles in the prompts of some examples (history, items to judge); empty where the run's artifacts are missing."""
    artifacts = run.metadata["artifacts"]
    paths = [Path(artifacts.get(name, {}).get("path", "")) for name in ("examples", "dataset")]
    examples, items = paths[0] / "examples.parquet", paths[1] / "items.parquet"
    if not (examples.is_file() and items.is_file()):
        return {}
    titles = pd.read_parquet(items, columns=["item", "title"]).set_index("item")["title"].to_dict()
    columns = ["example_id", "item", "candidates", "history"]
    rows = pd.read_parquet(examples, columns=columns, filters=[("example_id", "in", example_ids)])
    found = {}
    for name, item, candidates, history in zip(*(rows[column] for column in columns), strict=True):
        shown = "; ".join(titles[i] for i in history) or "none"
        asked = "; ".join(titles[i] for i in (candidates if len(candidates) else [item]))
        found[str(name)] = f"history: {shown} | asked: {asked}"
    return found


def _flat(node: object, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix.removesuffix("."): node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat.update(_flat(value, f"{prefix}{key}."))
    return flat
