"""The whole audit of a dataset and its examples, read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ckf.core.artifact_store import read_json
from ckf.data.audit.candidate_checks import ListChecks
from ckf.data.audit.counters import Tally
from ckf.data.audit.example_batch import Block
from ckf.data.audit.history_checks import EarlierCounts, check_labels, check_past, history_marks
from ckf.data.audit.report import PASS, STOP, WARN, AuditReport, Finding
from ckf.data.audit.table_checks import table_lines
from ckf.data.candidates import CandidateHash
from ckf.data.example_settings import ExampleSettings
from ckf.data.interaction_keys import TRAINED_ON, UNKNOWN, raw_ids, row_keys
from ckf.data.interactions import InteractionLog
from ckf.tasks import BUILT_IN, Task

_ROWS = 131_072
_ALWAYS = {
    "target_in_history": "examples whose target is in the history",
    "target_title_in_history": "examples whose history holds another item of the target's title",
    "history_ids_in_tables": "histories with an id that names no item",
    "history_not_earlier": "histories with an item that the user met after the target",
    "history_too_long": "histories longer than tasks.history_items",
    "history_ratings_differ": "rated histories whose ratings are not the user's",
    "train_history_from_held_out": "training examples whose history holds a val or test interaction",
    "example_without_interaction": "examples of a user and an item that never met",
    "example_in_another_split": "examples whose interaction is of another split or time",
    "labels_differ": "examples whose label is not their interaction's",
    "warm_flags_from_train": "examples whose warm and cold marks are not made from training alone",
    "empty_reviews": "review prompts without a review",
    "candidate_count": "lists that do not hold tasks.candidates items",
    "target_not_among_candidates": "lists where the target is not at its place",
    "candidate_ids_in_tables": "lists with an id that names no item",
    "duplicate_example_ids": "examples whose id another one has",
}
"""Kinds that stop a run under every source and protocol."""
_STRICT = {
    "negative_is_positive": "lists with another positive of the user's (training: of the training split)",
    "drawn_item_is_positive": "drawn items that the user likes (training: in the training split)",
    "duplicate_titles_among_candidates": "lists that hold one title twice",
}
"""Kinds that the released protocol makes on purpose: there they warn."""
_MADE_HERE = {
    "history_out_of_order": "histories that are not oldest first",
    "history_of_another_user": "histories with an item that the user has no interaction with",
    "history_holds_disliked": "histories of liked items that hold one not liked",
    "history_lacks_items": "histories shorter than the earlier interactions allow",
}
"""Kinds that stop where ckf made the histories; the source's own may know more than its tables."""
_FIGURES = {
    "eval_history_from_held_out": "val and test examples whose history holds earlier val or test interactions",
    "histories_cut": "examples whose user has more earlier items than tasks.history_items",
    "reviews_cut": "reviews of tasks.review_words words: cut there, or just as long",
}
"""Facts that are neither good nor bad."""


def audit(dataset: Path, examples: Path, tasks: Mapping[str, Task] = BUILT_IN) -> AuditReport:
    """Look through a dataset artifact and its examples.

    Raises:
        ArtifactError: a table or manifest is missing.
    """
    log = InteractionLog.load(dataset)
    manifest = read_json(examples / "manifest.json")
    settings = ExampleSettings(**manifest["settings"])
    lines = list(table_lines(dataset, log, str(read_json(dataset / "manifest.json").get("split", "provided"))))
    if settings.released and log.history is None:
        log = log.all_liked()
    return AuditReport(lines + list(_example_lines(log, settings, examples, manifest, tasks)), settings.protocol)


def audit_artifacts(
    dataset: Path, examples: Path, trained: list[Path], tasks: Mapping[str, Task] = BUILT_IN
) -> AuditReport:
    """The audit, and a line for each CF model trained on these artifacts."""
    report = audit(dataset, examples, tasks)
    return AuditReport(report.lines + [cf_line(dataset, path) for path in trained], report.protocol)


def _example_lines(
    log: InteractionLog,
    settings: ExampleSettings,
    examples: Path,
    manifest: dict[str, Any],
    tasks: Mapping[str, Task],
) -> Iterator[Finding]:
    tally, lists, earlier, frozen = Tally(), ListChecks(log, settings), EarlierCounts(log), CandidateHash()
    counts = {kind: log.train_counts(kind) for kind in ("user", "item")}
    counts["titles"] = np.bincount(log.title[log.catalogue], minlength=int(log.title.max(initial=0)) + 1)
    ids, marks = [], []
    names = {name.split("/")[0] for name in manifest["examples"]}
    first_task = min(names, default="")
    labels = {name: tasks[name].label(log.columns()) for name in names}
    file = pq.ParquetFile(examples / "examples.parquet")
    for batch in file.iter_batches(_ROWS):
        table = _as_table(batch)
        block = Block(table, log, settings, counts, tasks)
        block.first_task = first_task
        check_past(block, tally, earlier)
        check_labels(block, tally, labels)
        lists.check(block, tally)
        frozen.add(table)
        ids.append(pl.Series(block.names).hash().to_numpy())
        marks.append(history_marks(block))
    _count_repeated_ids(np.concatenate(ids) if ids else np.empty(0, np.uint64), tally, examples)
    yield from _graded(tally, settings, imported=log.history is not None)
    yield _shared_histories(marks)
    yield from (
        Finding(
            f"{task}_examples_left_out",
            WARN,
            found["text"],
            sum(found["examples"].values()),
            found["of"],
            found["first"],
        )
        for task, found in manifest.get("left_out", {}).items()
    )
    if lists.lists:
        yield from lists.lines()
        yield _frozen(frozen, manifest)


def _as_table(batch):  # type: ignore[no-untyped-def]  # pyarrow has no stubs
    import pyarrow as pa

    return pa.Table.from_batches([batch])


def _graded(tally: Tally, settings: ExampleSettings, *, imported: bool) -> Iterator[Finding]:
    """Counts to lines, each with the level that its kind has here."""
    for kinds, level in (
        (_ALWAYS, STOP),
        (_STRICT, WARN if settings.released else STOP),
        (_MADE_HERE, WARN if imported else STOP),
        (_FIGURES, PASS),
    ):
        for kind, message in kinds.items():
            found = tally[kind]
            if kind in _ALWAYS and settings.released and kind.startswith("target") and "history" in kind:
                level_here = WARN  # a random target may be one of the user's own
            else:
                level_here = level
            yield Finding(kind, level_here if found.count else PASS, message, found.count, found.of, found.first)
    found = tally["history_at_the_same_time"]
    kept = settings.keeps_same_time(imported=imported)
    message = "examples whose history holds an item of the target's own second" + (
        " (tasks.history_same_timestamp=exclude leaves them out)" if kept else ""
    )
    level = PASS if not found.count else WARN if kept else STOP
    yield Finding("history_at_the_same_time", level, message, found.count, found.of, found.first)
    found = tally["val_history_from_test"]
    message = "val examples whose history holds a test interaction: the choice of a checkpoint sees test rows"
    yield Finding("val_history_from_test", WARN if found.count else PASS, message, found.count, found.of, found.first)
    found = tally["reviews_name_the_rating"]
    often = found.count > 0.05 * max(1, found.of)
    message = "reviews that name stars or a mark: the answer is in the prompt"
    yield Finding("reviews_name_the_rating", WARN if often else PASS, message, found.count, found.of, found.first)


def _count_repeated_ids(hashes: np.ndarray, tally: Tally, examples: Path) -> None:
    ordered = np.sort(hashes)
    n = int((ordered[1:] == ordered[:-1]).sum())
    found = tally.kinds.setdefault("duplicate_example_ids", tally["duplicate_example_ids"])
    found.of = len(hashes)
    if n:
        names = pl.read_parquet(examples / "examples.parquet", columns=["example_id"])["example_id"]
        repeated = names.filter(names.is_duplicated())
        found.count, found.first = len(repeated) - repeated.n_unique(), repeated[0] if len(repeated) else None


def _shared_histories(marks: list[tuple[np.ndarray, np.ndarray]]) -> Finding:
    """The released notebook gives every user the last row's history; by chance long ones rarely agree."""
    mark, user = (np.concatenate([part[i] for part in marks] or [np.empty(0, np.int64)]) for i in (0, 1))
    order = np.lexsort((user, mark))
    mark, user = mark[order], user[order]
    start = np.flatnonzero(np.r_[True, mark[1:] != mark[:-1]][: len(mark)])
    stop = np.r_[start[1:], len(mark)]
    many = user[start] != user[stop - 1] if len(start) else np.empty(0, bool)
    n = int((stop - start)[many].sum())
    share = n / max(1, len(mark))
    level = STOP if share > 0.5 else WARN if share > 0.05 else PASS
    message = "examples whose history (three items or more) is another user's, item by item"
    return Finding("histories_shared_by_users", level, message, n, len(mark))


def _frozen(frozen: CandidateHash, manifest: dict[str, Any]) -> Finding:
    listed, found = manifest["candidate_lists_sha256"], frozen.digests()
    changed = sorted(split for split in {*listed, *found} if listed.get(split) != found.get(split))
    message = "splits whose candidate lists are not those of the manifest's hash"
    return Finding(
        "candidates_as_frozen", STOP if changed else PASS, message, len(changed), 3, ", ".join(changed) or None
    )


def cf_line(dataset: Path, cf: Path) -> Finding:
    """Check that a CF model was trained on no row of val or test, by the row keys in its artifact."""
    manifest = read_json(cf / "manifest.json")
    name, trained_on = f"cf_trained_on_train {cf.name}", manifest["trained_on"]
    if trained_on == UNKNOWN:
        return Finding(name, WARN, f"{manifest['model']}: training data unknown, leakage cannot be excluded", 0, 0)
    rows = pq.read_table(dataset / "interactions.parquet", columns=["user", "item", "timestamp", "split"])
    held_out = rows.filter(pc.is_in(rows["split"], value_set=pa.array(["val", "test"])))
    user, item, time = (held_out[column].to_numpy() for column in ("user", "item", "timestamp"))
    keys = row_keys(user, item, time, of=(raw_ids(dataset, "user"), raw_ids(dataset, "item")))
    seen = pq.read_table(cf / TRAINED_ON, columns=["key"])["key"].to_numpy()
    count = int(np.isin(keys, seen).sum())
    message = f"rows of val and test among the {len(seen)} that {manifest['model']} was trained on"
    return Finding(name, STOP if count else PASS, message, count, len(keys))
