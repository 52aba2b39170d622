"""Rows of a predictions file: every source's scores in one form, so that any two pair up by example and item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from ckf.data.example_table import ExampleTable
from ckf.data.interaction_keys import raw_ids
from ckf.prompts.collate import Collators
from ckf.tasks import Task
from ckf.tasks.base import Vocabulary


def predictions(
    table: ExampleTable,
    log_probabilities: Sequence[np.ndarray],
    collators: Collators,
    source: str,
    *,
    mean: bool = False,
) -> pd.DataFrame:
    """Turn answer log-probabilities into rows of the predictions file, task by task.

    Lists have one row a candidate, scored by its answer's log-probability, which ``mean`` divides by the answer's
    tokens (terminator included). For other tasks the task makes the score from the answers' probabilities
    (`Task.scores`), and ``answer`` is the most probable one.
    """
    encoder, frames = collators.encoder, []
    for name, rows in rows_of_tasks(table):
        task = encoder.tasks[name]
        if task.lists:
            frame = list_rows(table, rows, source)
            scores = np.concatenate([log_probabilities[row] for row in rows])
            titles = [encoder.titles[item] for item in frame["item"]]
            if mean:
                scores = scores / np.asarray([len(encoder.answer_ids(name, title)) for title in titles])
            frames.append(frame.assign(score=scores, answer=titles))
            continue
        labels = encoder.labels(table[int(rows[0])])
        chances = softmax(np.stack([log_probabilities[row] for row in rows]), axis=1)
        answers = np.asarray(labels, dtype=object)[chances.argmax(axis=1)]
        frames.append(single_rows(table, rows, source).assign(score=task.scores(chances, labels), answer=answers))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def cf_predictions(
    table: ExampleTable, scores: pd.DataFrame, words: Vocabulary, source: str, tasks: Mapping[str, Task]
) -> pd.DataFrame:
    """Rows of the predictions file from a CF artifact's own scores (``example_id``, ``item``, ``score``)."""
    key, frames = ["example_id", "item"], []
    known = scores.drop_duplicates(key, keep="last")[[*key, "score"]].astype({"score": float})
    for name, rows in rows_of_tasks(table):
        task = tasks[name]
        frame = list_rows(table, rows, source) if task.lists else single_rows(table, rows, source)
        frame = frame.merge(known, on=key, how="left", validate="many_to_one")
        if task.lists:
            answer = [words.titles[item] for item in frame["item"]]
        else:
            answer = task.answer_of(frame["score"].to_numpy(), task.labels(table[int(rows[0])], words))
        frames.append(frame.assign(answer=answer))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def order_alone(rows: pd.DataFrame, tasks: Mapping[str, Task]) -> pd.DataFrame:
    """Mark rows of Yes and No whose scores are an order: no answer follows from them, and no likelihood."""
    binary = rows["task"].map(lambda name: tasks[name].binary).to_numpy(dtype=bool)
    answer = np.where(binary, "", rows["answer"].astype(str))
    return rows.assign(answer=answer, order_alone=binary)


def with_raw_ids(rows: pd.DataFrame, dataset: Path) -> pd.DataFrame:
    """Add ``raw_user`` and ``raw_item``, the source's own ids, next to ckf's; "" for an id that the dataset has not.

    ckf numbers users and items from one, so where the source has numbers too, the two are easily mistaken.
    """
    for kind in ("user", "item"):
        names, ids = raw_ids(dataset, kind), rows[kind].to_numpy()
        raw = np.where(ids < len(names), names[np.minimum(ids, len(names) - 1)], "")
        rows = rows.drop(columns=f"raw_{kind}", errors="ignore")
        rows.insert(list(rows.columns).index(kind) + 1, f"raw_{kind}", raw)
    return rows


def rows_of_tasks(table: ExampleTable) -> list[tuple[str, np.ndarray]]:
    """The rows of each task that the table holds."""
    found = [(task, np.flatnonzero(table.task_index == number)) for number, task in enumerate(table.tasks)]
    return [(task, rows) for task, rows in found if len(rows)]


def single_rows(table: ExampleTable, rows: np.ndarray, source: str) -> pd.DataFrame:
    """The columns of tasks with one target, without score and answer."""
    return _base(table, rows, source).assign(item=table.item[rows], label=table.label[rows], position=-1)


def list_rows(table: ExampleTable, rows: np.ndarray, source: str) -> pd.DataFrame:
    """The same for lists: one row a candidate, ``position`` its place and ``label`` whether it is the target."""
    lists = [table.list_of("candidates", int(row)) for row in rows]
    frame = example_rows(table, rows, lists, source)
    target = np.repeat(table.position[rows], [len(candidates) for candidates in lists])
    return frame.assign(label=(frame["position"].to_numpy() == target).astype(float))


def example_rows(table: ExampleTable, rows: np.ndarray, lists: Sequence[np.ndarray], source: str) -> pd.DataFrame:
    """One row for each item of lists that are not the examples' own; ``label`` is 1 for the target."""
    sizes = np.asarray([len(items) for items in lists])
    owner = np.repeat(rows, sizes)
    items = np.concatenate([np.asarray(part, dtype=np.int64) for part in lists]) if len(lists) else np.empty(0, int)
    place = np.concatenate([np.arange(size) for size in sizes]) if len(sizes) else np.empty(0, int)
    label = (items == table.item[owner]).astype(float)
    return _base(table, owner, source).assign(item=items, label=label, position=place, answer="")


def _base(table: ExampleTable, rows: np.ndarray, source: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": source,
            "example_id": np.asarray(table.example_id, dtype=object)[rows],
            "task": table.task[rows],
            "user": table.user[rows],
            "warm_seen": table.warm_seen[rows].astype(bool),
            "warm_3": table.warm_3[rows].astype(bool),
        }
    )
