"""A prepared dataset in the released code's formats: its processed folder, and its training lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from ckf.core.artifact_store import json_text, new_folder
from ckf.core.errors import CkfError, DataError
from ckf.data.readers.processed_json import COLD_FILES, COLD_KEY, ITEM_TITLES, RATINGS, REVIEWS, SEQUENCES, TITLES
from ckf.tasks import BUILT_IN, Task
from ckf.tasks.base import ReleasedRow

KINDS = ("processed_json", "jsonl")
_BATCH_ROWS = 10_000
_LIST_LENGTH = 10  # of candidate_item: the released collator expects ten ids, 0 pads
SLOT = "<unk>"
"""Where the released collator puts a vector: the user's first, then those of the candidates."""


def export_dataset(dataset: Path, examples: Path, kind: str, out: Path, tasks: Mapping[str, Task] = BUILT_IN) -> Path:
    """Write a prepared dataset (``processed_json``) or its examples (``jsonl``) to the new folder ``out``.

    Raises:
        DataError: an unknown kind, ``out`` holds something, or data that the format cannot carry.
    """
    if kind not in KINDS:
        raise DataError(f"export: '{kind}' is not a format; one of {', '.join(KINDS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"export: {out} holds something already; remove it or name another folder")
    write = _write_processed if kind == "processed_json" else _write_lines
    try:
        with new_folder(out) as temporary:
            write(dataset, examples, temporary, tasks)
    except OSError as error:
        raise DataError(f"export: {out}: {error.strerror or error}") from None
    return out


def _write_processed(dataset: Path, examples: Path, out: Path, tasks: Mapping[str, Task]) -> None:
    """The six files, user by user; within a user by time, then by item, as leave-last-out orders them."""
    del examples, tasks  # the layout holds interactions alone
    titles = _titles(dataset)
    log = pl.scan_parquet(dataset / "interactions.parquet")
    present = log.select(pl.col("rating").is_not_null().any(), pl.col("review").is_not_null().any()).collect()
    if not present["rating"].item():
        raise DataError(f"export=processed_json: {dataset} has no ratings, which the format needs; use export=jsonl")
    users = (
        log.select("user", "item", "rating", "review", "timestamp")
        .sort("user", "timestamp", "item")
        .group_by("user", maintain_order=True)
        .agg("item", "rating", "review")
        .collect()
    )
    with ExitStack() as stack:
        write = {name: _object(stack, out / name) for name in (SEQUENCES, TITLES, RATINGS, REVIEWS, ITEM_TITLES)}
        for user, items, ratings, reviews in users.iter_rows():
            write[SEQUENCES](user, [user, *items])
            write[TITLES](user, [titles[item] for item in items])
            write[RATINGS](user, ratings)
            write[REVIEWS](user, [review or "" for review in reviews])
        for item, title in titles.items():
            write[ITEM_TITLES](item, title)
    if not present["review"].item():
        (out / REVIEWS).unlink()
    for name in COLD_FILES:  # the released code reads one spelling and writes the other
        text = json_text({COLD_KEY: _cold_users(dataset)})
        (out / name).write_text(text + "\n", encoding="utf-8")


def _titles(dataset: Path) -> dict[int, str]:
    return dict(pl.read_parquet(dataset / "items.parquet", columns=["item", "title"]).sort("item").iter_rows())


def _cold_users(dataset: Path) -> list[int]:
    users = pl.read_parquet(dataset / "users.parquet")
    cold = pl.col("cold") if "cold" in users.columns else pl.col("n_train") == 0
    return users.filter(cold)["user"].sort().to_list()


def _object(stack: ExitStack, path: Path) -> Callable[[int, Any], None]:
    """A JSON object that is written one key at a time."""
    file = stack.enter_context(path.open("w", encoding="utf-8"))
    file.write("{")
    stack.callback(file.write, "}\n")
    before = ""

    def write(key: int, value: Any) -> None:
        nonlocal before
        file.write(f'{before}\n"{key}": {json_text(value)}')
        before = ","

    return write


def _write_lines(dataset: Path, examples: Path, out: Path, tasks: Mapping[str, Task]) -> None:
    """``train.jsonl``, ``val.jsonl``, ``test.jsonl`` with slots, ``all_title_*.jsonl`` the same as text alone."""
    titles = _titles(dataset)
    path = examples / "examples.parquet"
    if not path.is_file():
        raise CkfError(f"{path}: no such file; build the examples first (ckf prepare)")
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for row in _rows(path):
            for prefix, slot in (("", SLOT), ("all_title_", "")):
                name = f"{prefix}{row['split']}.jsonl"
                if name not in files:
                    files[name] = stack.enter_context((out / name).open("w", encoding="utf-8"))
                files[name].write(json_text(released_line(row, titles, slot, tasks)) + "\n")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    columns = ["task", "split", "user", "item", "label", "candidates", "history", "history_ratings", "review"]
    for batch in pq.ParquetFile(path).iter_batches(_BATCH_ROWS, columns=columns):
        yield from batch.to_pylist()


def released_line(
    row: dict[str, Any], titles: dict[int, str], slot: str, tasks: Mapping[str, Task] = BUILT_IN
) -> dict[str, Any]:
    """One training line with the released keys; the wording is ours, ``slot`` empty makes it text alone.

    Raises:
        DataError: the released format has no such task.
    """
    task = tasks[row["task"]]
    if task.released_name is None:
        able = ", ".join(name for name, known in tasks.items() if known.released_name)
        raise DataError(f"export=jsonl: task '{task.name}' has no released form; one of {able}")
    lists = {name: list(row[name] or []) for name in ("candidates", "history", "history_ratings")}
    words = ReleasedRow(
        item=row["item"], label=row["label"], review=row["review"] or "", titles=titles, slot=slot, **lists
    )
    text, answer = task.released_prompt(words)
    candidates = words.candidates if task.lists else [words.item]
    return {
        "input": text,
        "output": answer,
        "user_id": row["user"],
        "candidate_item": candidates + [0] * (_LIST_LENGTH - len(candidates)),
        "task_type": task.released_name,
        "history_items_id": task.released_history(words),
    }
