"""Dataset to examples: one row per prompt, every draw by name, written in row groups and audited."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ckf.core.artifact_store import write_json
from ckf.core.rng import hash_ids, hashed_uniform
from ckf.core.split_names import SPLITS
from ckf.data.audit import audit, raise_on_violation, write_audit
from ckf.data.candidates import CandidateHash, CandidateRows, CandidateSampler, as_lists
from ckf.data.example_settings import ExampleSettings
from ckf.data.histories import Histories, imported_histories
from ckf.data.interactions import InteractionLog, lists_of
from ckf.data.left_out import LeftOut
from ckf.data.ragged import RaggedArray
from ckf.tasks import BUILT_IN, Task

_RELEASED_IMPORTED = (1, 20)
"""Lengths of a source's own history that the released code takes a row with."""
_BLOCK = 65_536
_SCHEMA = pa.schema(
    {
        "example_id": pa.string(),
        "task": pa.string(),
        "split": pa.string(),
        "user": pa.int32(),
        "item": pa.int32(),
        "label": pa.float32(),
        "candidates": pa.list_(pa.int32()),
        "position": pa.int32(),
        "history": pa.list_(pa.int32()),
        "history_ratings": pa.list_(pa.float32()),
        "review": pa.string(),
        "timestamp": pa.int64(),
        "warm_seen": pa.bool_(),
        "warm_3": pa.bool_(),
    }
)


def build_examples(
    dataset: Path, tasks: list[str], *, out: Path, known: Mapping[str, Task] = BUILT_IN, **settings: Any
) -> None:
    """Write ``examples.parquet`` (sorted by example id), ``manifest.json`` and the audit to ``out``.

    ``known`` holds the tasks by name, the user's own with them. ``settings`` are the fields of `ExampleSettings`.

    Raises:
        LeakError: an example that leaks; it carries the whole audit.
    """
    chosen = ExampleSettings(**settings)
    log = InteractionLog.load(dataset)
    if chosen.released and log.history is None:
        log = log.all_liked()
    counts: dict[str, int] = {}
    left_out: dict[str, Any] = {}
    frozen = CandidateHash()
    with (
        _reviews(
            dataset,
            chosen.review_words,
            out / ".reviews.arrow",
            needed=any("review" in known[task].needs for task in tasks),
        ) as reviews,
        pq.ParquetWriter(out / "examples.parquet", _SCHEMA) as writer,
    ):
        for task in sorted(tasks):
            maker = _Maker(log, known[task], chosen, reviews)
            for split, rows in maker.blocks():
                table = maker.table(split, rows)
                counts[f"{task}/{split}"] = counts.get(f"{task}/{split}", 0) + table.num_rows
                frozen.add(table)
                writer.write_table(table)
            if maker.left_out.total:
                made = sum(n for name, n in counts.items() if name.startswith(f"{task}/"))
                left_out[task] = maker.left_out.to_json(task, made, maker.needed, dataset)
    manifest = {
        "protocol": chosen.protocol,
        "settings": dataclasses.asdict(chosen),
        "examples": dict(sorted(counts.items())),
        "candidate_lists_sha256": frozen.digests(),
        "left_out": left_out,
        "warnings": [found["text"] for found in left_out.values()],
    }
    write_json(out / "manifest.json", manifest)
    report = audit(dataset, out, known)
    write_json(out / "manifest.json", {**manifest, "audit": report.summary()})
    write_audit(report, out)
    raise_on_violation(report)


class _Maker:
    """Makes the examples of one task, block by block."""

    def __init__(
        self, log: InteractionLog, task: Task, settings: ExampleSettings, reviews: pa.ChunkedArray | None
    ) -> None:
        self.log, self.task, self.settings, self.reviews = log, task, settings, reviews
        self.with_review = "review" in task.needs
        self.keep_same_time = settings.keeps_same_time(imported=log.history is not None)
        pool = np.ones(len(log), dtype=bool) if task.history == "all" else log.click == 1
        # training prompts show no held-out interaction, in any split
        self.histories = {} if log.history is not None else {
            training: Histories(
                log, pool & log.known_in_training if training else pool, settings.longest_history,
                keep_same_time=self.keep_same_time,
            )
            for training in (True, False)
        }  # fmt: skip
        self.sampler = (
            CandidateSampler(
                log,
                self.candidates,
                settings.seed,
                popularity=settings.negatives == "popularity",
                released=settings.released,
            )
            if task.lists or task.drawn_negatives
            else None
        )
        self.seen = {kind: log.train_counts(kind) for kind in ("user", "item")}
        self.left_out = LeftOut()

    @property
    def candidates(self) -> int:
        """Items that an example needs: those of its list, or the like and what is drawn for it."""
        return self.settings.candidates if self.task.lists else 1 + self.task.drawn_negatives

    @property
    def needed(self) -> str:
        """The same number as a message names it."""
        return f"tasks.candidates={self.candidates}" if self.task.lists else f"{self.candidates}"

    def blocks(self) -> Iterator[tuple[str, np.ndarray]]:
        """Rows of the log that the task is made from, in the order of their example ids, in blocks of one split."""
        wanted = self._wanted()
        size = max(1, _BLOCK * 10 // max(10, self.settings.candidates if self.task.lists else 0))
        for split in sorted(SPLITS):
            rows = np.flatnonzero(wanted & (self.log.split == SPLITS.index(split)))
            rows = rows[pc.sort_indices(self._pair_names(rows)).to_numpy()]
            for start in range(0, len(rows), size):
                yield split, rows[start : start + size]

    def _wanted(self) -> np.ndarray:
        log, has_review = self.log, None
        if self.with_review:
            has_review = pc.fill_null(pc.binary_length(self.reviews), 0).to_numpy() > 0
        wanted = self.task.wanted(log.columns(has_review))
        if self.settings.released and log.history is not None:
            low, high = _RELEASED_IMPORTED
            wanted = wanted & (log.history.lengths >= low) & (log.history.lengths <= high)
        return wanted

    def _pair_names(self, rows: np.ndarray) -> pa.Array:
        user, item = (pa.array(part[rows]).cast(pa.string()) for part in (self.log.user, self.log.item))
        return pc.binary_join_element_wise(user, item, "-")

    def table(self, split: str, rows: np.ndarray) -> pa.Table:
        """The examples of these rows of the log, each before those of its drawn items."""
        table = self._of_rows(split, rows)
        if self.sampler is None or self.task.lists:
            return table
        names, history = table["example_id"].combine_chunks(), lists_of(table["history"])
        keys, user = hash_ids(names.to_pylist()), self.log.user[rows]
        like = self.log.item[rows]
        drawn, found = self.sampler.negatives(CandidateRows(keys, user, like, self.log.split[rows], history))
        if (short := found < self.task.drawn_negatives).any():
            self.left_out.add(split, user[short], like[short], found[short] + 1)
            return self.table(split, rows[~short]) if not short.all() else _SCHEMA.empty_table()
        parts = [table]
        for place in range(drawn.shape[1]):
            item = drawn[:, place]
            changed = {
                "example_id": pc.binary_join_element_wise(names, f"-n{place + 1}", ""),
                "item": pa.array(item, pa.int32()),
                "label": pa.array(np.zeros(len(rows)), pa.float32()),
                **self._warmth(user, item),
            }
            columns = [changed.get(name, table[name]) for name in _SCHEMA.names]
            parts.append(pa.table(columns, schema=_SCHEMA))
        order = np.arange(len(parts) * len(rows)).reshape(len(parts), len(rows)).T.ravel()
        return pa.concat_tables(parts).take(pa.array(order))

    def _warmth(self, user: np.ndarray, item: np.ndarray) -> dict[str, pa.Array]:
        """Whether train has user and item once, and three times."""
        fewest = np.minimum(self.seen["user"][user], self.seen["item"][item])
        return {"warm_seen": pa.array(fewest >= 1), "warm_3": pa.array(fewest >= 3)}

    def _of_rows(self, split: str, rows: np.ndarray) -> pa.Table:
        log, settings = self.log, self.settings
        names = pc.binary_join_element_wise(f"{self.task.name}/{split}/", self._pair_names(rows), "")
        user, item, label = log.user[rows], log.item[rows], self._label(rows)
        if settings.released and self.task.random_targets_when_released and log.history is None:
            # half the targets become any item, and only they are a No
            uniform = hashed_uniform(settings.seed, "released ctr targets", hash_ids(names.to_pylist()), 2)
            label = (uniform[:, 0] >= 0.5).astype(np.float32)
            other = log.catalogue[(uniform[:, 1] * len(log.catalogue)).astype(np.int64)]
            item = np.where(label == 1, item, other)
        history, ratings = self._history(rows, split)
        candidates, position = (
            RaggedArray(np.empty(0, np.int64), np.zeros(len(rows) + 1, np.int64)),
            np.full(len(rows), -1),
        )
        if self.sampler is not None and self.task.lists:
            listed = CandidateRows(hash_ids(names.to_pylist()), user, item, log.split[rows], history)
            drawn, position, found = self.sampler.draw(listed)
            if (short := found < settings.candidates).any():
                self.left_out.add(split, user[short], item[short], found[short])
                return self.table(split, rows[~short]) if not short.all() else _SCHEMA.empty_table()
            candidates = as_lists(drawn)
        columns = {
            "example_id": names,
            "task": pa.array([self.task.name]).take(pa.array(np.zeros(len(rows), np.int64))),
            "split": pa.array([split]).take(pa.array(np.zeros(len(rows), np.int64))),
            "user": pa.array(user, pa.int32()),
            "item": pa.array(item, pa.int32()),
            "label": pa.array(label, pa.float32()),
            "candidates": _list_column(candidates, pa.int32()),
            "position": pa.array(position, pa.int32()),
            "history": _list_column(history, pa.int32()),
            "history_ratings": _list_column(ratings, pa.float32()),
            "review": self.reviews.take(pa.array(rows))
            if self.reviews is not None and self.with_review
            else pa.nulls(len(rows), pa.string()),
            "timestamp": pa.array(log.timestamp[rows]),
            **self._warmth(user, item),
        }
        return pa.table(columns, schema=_SCHEMA)

    def _label(self, rows: np.ndarray) -> np.ndarray:
        return self.task.label(self.log.columns())[rows].astype(np.float32)

    def _history(self, rows: np.ndarray, split: str) -> tuple[RaggedArray, RaggedArray]:
        """History items of each row and, where the task shows them, their ratings."""
        log, last = self.log, self.settings.longest_history
        if log.history is not None:
            found = imported_histories(log, rows, last, keep_same_time=self.keep_same_time)
            if not self.task.history_ratings:
                return found, _no_values(len(rows))
            known = log.pairs.rows(log.user[rows][found.row_of], found.values)
            found = RaggedArray(known, found.offsets).kept((known >= 0) & ~np.isnan(log.rating[known]))
        else:
            found = self.histories[split == "train"].of(rows)
        items = RaggedArray(log.item[found.values], found.offsets)
        return items, RaggedArray(log.rating[found.values], found.offsets) if self.task.history_ratings else _no_values(
            len(rows)
        )


def _no_values(rows: int) -> RaggedArray:
    return RaggedArray(np.empty(0, np.float32), np.zeros(rows + 1, np.int64))


def _list_column(lists: RaggedArray, kind: pa.DataType) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(lists.offsets, pa.int32()), pa.array(lists.values, kind))


@contextmanager
def _reviews(dataset: Path, words: int, temporary: Path, *, needed: bool) -> Iterator[pa.ChunkedArray | None]:
    """The first words of every review, cut in a stream and mapped from a file: memory holds what is looked at."""
    if not needed:
        yield None
        return
    file = pq.ParquetFile(dataset / "interactions.parquet")
    schema = pa.schema({"review": pa.string()})
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in file.iter_batches(_BLOCK, columns=["review"]):
            writer.write_batch(pa.record_batch([first_words(batch["review"].cast(pa.string()), words)], schema=schema))
    try:
        with pa.memory_map(str(temporary)) as source:
            yield pa.ipc.open_file(source).read_all()["review"]
    finally:
        temporary.unlink()


def first_words(texts: pa.Array, words: int) -> pa.Array:
    """The first words of each text, joined by single spaces, as ``" ".join(text.split()[:words])``; null stays null."""
    parts = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts), max_splits=words)
    return pc.binary_join(pc.list_slice(parts, 0, words), " ")
