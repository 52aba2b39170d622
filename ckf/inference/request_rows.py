"""Rows that a user supplies: allowed columns, errors, and scores by the same code as `ckf evaluate`.

Columns: ``task`` (ctr where there is none), ``user`` and ``item`` (the source's own ids); for topk
``candidates`` (a list of items) in place of ``item``; for explain ``review``. ``history`` (items, oldest
first) and ``history_ratings`` replace the user's history in the data, ``timestamp`` takes what lies
before it. Or one column ``example_id``, for the prepared examples of the run.

Ids are the source's alone. A user that the data does not know is scored as a cold one, keeps its id and has
``known`` false; an item that it does not know is a fault of the row. Rows are numbered from one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ckf.config.schema import ExperimentConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.core.split_names import SPLITS
from ckf.data.example_table import Example, ExampleTable
from ckf.data.interaction_keys import id_text
from ckf.eval.evaluate import device_of
from ckf.eval.full_ranking import Catalogue
from ckf.eval.predictions import predictions
from ckf.eval.score import answer_log_probabilities
from ckf.inference.adhoc_user_vectors import AdhocUserVectors
from ckf.inference.dataset_index import UNKNOWN, DatasetIndex
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collators
from ckf.runs.evaluation_log import record_evaluation
from ckf.tasks import DEFAULT_TASK

COLUMNS = (
    "task", "user", "item", "candidates", "history", "history_ratings", "timestamp", "review", "example_id",
)  # fmt: skip


class LoadedRun(Protocol):
    """What scoring rows needs of a loaded run (`ckf.inference.predictor.Predictor`)."""

    run: Path
    exp: ExperimentConfig
    model: Recommender | None
    collators: Collators | None

    @property
    def known(self) -> DatasetIndex: ...  # noqa: D102
    @property
    def catalogue(self) -> Catalogue: ...  # noqa: D102
    @property
    def own_users(self) -> AdhocUserVectors: ...  # noqa: D102
    @property
    def prepared(self) -> dict[str, tuple[ExampleTable, int]]: ...  # noqa: D102


SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Request:
    """A row that can be scored: its number in the input, the user's id as the source has it, and the prompt."""

    row: int
    user: str
    example: Example


@dataclasses.dataclass(frozen=True)
class UnusableRow:
    """A row that cannot be scored: its number in the input, and why."""

    row: int
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"


def score_rows(trained: LoadedRun, rows: pd.DataFrame) -> pd.DataFrame:
    """Scores of rows: columns row (numbered from one), task, user, known, item, position, score and answer.

    Raises:
        DataError: rows that cannot be scored; names the first few.
    """
    requests, faults = read_rows(trained, rows, first=1)
    refuse_faults(faults, "rows")
    return score_requests(trained, requests)


def refuse_faults(faults: Sequence[UnusableRow], where: str) -> None:
    """Stop at rows that cannot be scored.

    Raises:
        DataError: the first few of them, in one line.
    """
    if faults:
        more = f" (and {len(faults) - SHOWN} more such rows)" if len(faults) > SHOWN else ""
        raise DataError(f"{where}: {'; '.join(map(str, faults[:SHOWN]))}{more}")


def score_requests(trained: LoadedRun, requests: Sequence[Request]) -> pd.DataFrame:
    """Scores of rows, in their order; a prepared example that several rows name is scored once."""
    model, collators = trained.model, trained.collators
    if model is None or collators is None:
        raise DataError(f"{trained.run}: predicts with a language model, and this run has none (backbone=none)")
    examples = list({request.example.example_id: request.example for request in requests}.values())
    if examples and is_own(examples[0]):
        collators = trained.own_users.collators(collators, examples)
    table = ExampleTable.of(examples, collators.tasks, "rows")
    exp = trained.exp
    scores, _ = answer_log_probabilities(
        model, table, collators,
        slots=exp.fusion.fuses, batch_size=exp.evaluate.batch_size, device=device_of(exp),
    )  # fmt: skip
    mean = exp.evaluate.length_normalisation == "mean"
    found = predictions(table, scores, collators, "model", mean=mean)
    asked = pd.DataFrame(
        {
            "row": np.asarray([request.row for request in requests], dtype=np.int64),
            "user": [request.user for request in requests],
            "known": [request.example.user != UNKNOWN for request in requests],
            "example_id": [request.example.example_id for request in requests],
        }
    )
    found = asked.merge(found.drop(columns="user"), on="example_id")
    return pd.DataFrame(
        {
            "row": found["row"],
            "task": found["task"].astype(str),
            "user": found["user"],
            "known": found["known"],
            "item": [str(trained.known.raw_items[item]) for item in found["item"]],
            "position": found["position"].astype("int64"),
            "score": found["score"].astype("float64"),
            "answer": found["answer"].astype(str),
        }
    ).sort_values(["row", "position"], kind="stable", ignore_index=True)


def is_own(example: Example) -> bool:
    """Whether an example was made from a user's own row and is not a prepared one."""
    return "/row/" in example.example_id


def read_rows(trained: LoadedRun, rows: pd.DataFrame, first: int) -> tuple[list[Request], list[UnusableRow]]:
    """The rows, numbered from ``first``, that can be scored, and those that cannot.

    Raises:
        DataError: a column is missing or not known.
    """
    unknown = [str(name) for name in rows.columns if name not in COLUMNS]
    if unknown:
        raise DataError(f"rows: unknown column '{unknown[0]}'; columns are {', '.join(COLUMNS)}")
    if "example_id" in rows:
        return _named_examples(trained, rows["example_id"].astype(str).tolist(), first)
    if "user" not in rows or not {"item", "candidates"} & set(rows.columns):
        raise DataError("rows: need the columns user and item (topk: candidates), or example_id")
    requests, faults = [], []
    for number, row in enumerate(_records(rows), start=first):
        try:
            requests.append(Request(number, id_text(row.get("user", "")), _example(trained, row, number)))
        except DataError as fault:
            faults.append(UnusableRow(number, str(fault)))
    return requests, faults


def _records(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries without what is missing."""
    for values in zip(*(rows[name] for name in rows.columns), strict=True):
        yield {
            str(name): value
            for name, value in zip(rows.columns, values, strict=True)
            if not (pd.api.types.is_scalar(value) and pd.isna(value))
        }


def _example(trained: LoadedRun, row: dict[str, Any], number: int) -> Example:
    known, tasks = trained.known, [task.name for task in trained.exp.scored_mix]
    name = str(row.get("task", _task_of_rows(trained)))
    if name not in tasks:
        raise DataError(f"task '{name}' is none that the run was trained on ({', '.join(tasks)})")
    if not id_text(row.get("user", "")):
        raise DataError("user is missing")
    item, task = 0, trained.exp.task_set[name]
    if task.lists:
        candidates = np.asarray([_item(trained, name) for name in _listed(row, "candidates")], dtype=np.int64)
        if len(candidates) < 2:
            raise DataError(f"candidates: a list needs two items at least, got {len(candidates)}")
        if len(set(candidates.tolist())) < len(candidates):
            raise DataError("candidates: an item is listed twice")
    else:
        candidates = np.empty(0, dtype=np.int64)
        if not id_text(row.get("item", "")):
            raise DataError("item is missing")
        item = _item(trained, row["item"])
    before = _seconds(row["timestamp"]) if "timestamp" in row else None
    example = known.example(name, task, known.user(row["user"]), item, before)
    if "history" in row:
        example = _with_history(trained, example, row)
    review = row.get("review")
    shown = "review" in task.placeholders
    if shown and not str(review or "").split():
        raise DataError("review is missing")
    words = " ".join(str(review).split()[: trained.exp.tasks.review_words]) if shown else None
    return dataclasses.replace(example, example_id=f"{name}/row/{number}", candidates=candidates, review=words)


def _task_of_rows(trained: LoadedRun) -> str:
    """The task of a row that names none: ctr, or the run's first one with the answers No and Yes."""
    binary = [entry.name for entry in trained.exp.scored_mix if entry.task.binary]
    return DEFAULT_TASK if DEFAULT_TASK in binary or not binary else binary[0]


def _with_history(trained: LoadedRun, example: Example, row: dict[str, Any]) -> Example:
    items = np.asarray([_item(trained, name) for name in _listed(row, "history")], dtype=np.int64)
    try:
        ratings = np.asarray(_listed(row, "history_ratings"), dtype=np.float32)
    except (TypeError, ValueError):
        raise DataError(f"history_ratings: '{row['history_ratings']}' are no numbers") from None
    if trained.exp.task_set[example.task].history_ratings and len(ratings) != len(items):
        raise DataError(f"history_ratings: {len(ratings)} ratings for {len(items)} items of the history")
    return dataclasses.replace(example, history=items, history_ratings=ratings)


def _listed(row: dict[str, Any], column: str) -> list[Any]:
    """The list in a column, empty where there is none; a text would be read letter by letter."""
    found = row.get(column, [])
    if not isinstance(found, (list, tuple, np.ndarray)):
        raise DataError(f"{column}: needs a list, got '{found}'")
    return list(found)


def _seconds(value: Any) -> int:
    if isinstance(value, (int, float, np.integer, np.floating)) and float(value).is_integer():
        return int(value)
    raise DataError(f"timestamp: needs whole seconds since 1970 as a number, got '{value}'")


def _item(trained: LoadedRun, name: Any) -> int:
    number = trained.known.item_number(name)
    if number is None:
        raise DataError(f"item '{name}' is not in the catalogue ({len(trained.catalogue.items)} items)")
    return number


def _named_examples(trained: LoadedRun, names: list[str], first: int) -> tuple[list[Request], list[UnusableRow]]:
    """Prepared examples by their ids; each split's table is read once and kept with the run."""
    places = trained.prepared
    requests, faults = [], []
    for number, name in enumerate(names, start=first):
        found = places.get(name)
        if found is None:
            reason = f"no example '{name}' (one reads task/split/USER-ITEM, e.g. ctr/test/12-7, with ckf's numbers)"
            faults.append(UnusableRow(number, reason))
        else:
            table, place = found
            example = table[place]
            requests.append(Request(number, str(trained.known.raw_users[example.user]), example))
    return requests, faults


def note_prepared(trained: LoadedRun, examples: Sequence[Example]) -> None:
    """Record in the run's evaluation log that prepared examples of a split are scored."""
    splits = [x.example_id.split("/")[1] for x in examples]
    for split in SPLITS[1:]:
        if splits.count(split):
            record_evaluation(trained.run, "predict", split, splits.count(split))


def run_key(trained: LoadedRun) -> dict[str, Any]:
    """What must be unchanged for a half-finished prediction to be continued."""
    metadata = read_json(trained.run / "run.json")
    return {"run": trained.run.name, "weights": metadata.get("identity", {}).get("weights")}
