"""Lines over the dataset's own tables: ids, titles, pairs, the split, counts made from training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.stats import spearmanr

from ckf.core.artifact_store import read_json
from ckf.core.split_names import SPLITS
from ckf.data.audit.report import PASS, STOP, WARN, Finding
from ckf.data.interactions import InteractionLog
from ckf.data.title_join import ABSENT, TitleJoin

TIMELESS = ("user_cold", "item_cold")
_UNTITLED_SHARE = 0.05
"""Share of items without a title from which the audit warns."""
_LATEST = 4_102_444_800  # the year 2100, in seconds


def table_lines(dataset: Path, log: InteractionLog, split: str) -> Iterator[Finding]:
    """Every line that needs the dataset alone. ``split``: the split's name in the manifest."""
    yield from _ids(dataset, log)
    yield from _titles(dataset, log)
    yield from _joined_titles(dataset)
    yield from _values(dataset, log)
    yield from _counts(dataset, log)
    yield from _time(log, split)
    yield from _cold(log, split)
    yield from _users_scored(log)
    yield from _sequential(log)


def stop_if(name: str, hit: np.ndarray, message: str, named: Any = None, level: str = STOP) -> Finding:
    """A check that must find no case; ``named`` gives the name of case ``i``."""
    n = int(hit.sum())
    first = named(int(np.argmax(hit))) if n and named else None
    return Finding(name, level if n else PASS, message, n, len(hit), first)


def _pair(log: InteractionLog) -> Any:
    return lambda i: f"{log.user[i]}-{log.item[i]}"


def _ids(dataset: Path, log: InteractionLog) -> Iterator[Finding]:
    users = pq.read_table(dataset / "users.parquet", columns=["user"])["user"].to_numpy()
    outside = ~np.isin(log.user, users) | ~np.isin(log.item, log.catalogue)
    yield stop_if("ids_in_tables", outside, "interactions whose user or item is in no table", _pair(log))
    keys = log.user * (int(log.item.max(initial=0)) + 1) + log.item
    order = np.argsort(keys, kind="stable")
    repeated = np.zeros(len(log), dtype=bool)
    repeated[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    yield stop_if(
        "pair_in_two_splits", repeated, "a user and an item that occur together twice, in one split or across splits",
        _pair(log),
    )  # fmt: skip


def _titles(dataset: Path, log: InteractionLog) -> Iterator[Finding]:
    items = pq.read_table(dataset / "items.parquet", columns=["item", "title"])
    length = pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(items["title"])), 0).to_numpy()
    yield stop_if(
        "empty_titles", length == 0, "items without a title: their prompts have a hole", items["item"].__getitem__
    )
    codes = log.title[log.catalogue]
    shared = np.bincount(codes)[codes] > 1
    yield Finding(
        "shared_titles", PASS, "items that share a normalised title with another; never two in one prompt",
        int(shared.sum()), len(shared),
    )  # fmt: skip


def _joined_titles(dataset: Path) -> Iterator[Finding]:
    """How many items found their title in the items file; 0% stops where there should be titles."""
    manifest = read_json(dataset / "manifest.json")
    if "title_join" not in manifest:  # made by hand
        return
    join, absent = TitleJoin(**manifest["title_join"]), ABSENT in manifest["warnings"]
    untitled = join.items - join.titled
    level = WARN if absent or untitled > _UNTITLED_SHARE * join.items else PASS
    if not join.titled and not absent:
        level = STOP
    yield Finding("items_without_title", level, ABSENT if absent else join.text(), untitled, join.items, join.item)


def _values(dataset: Path, log: InteractionLog) -> Iterator[Finding]:
    table = pq.read_table(dataset / "interactions.parquet", columns=["user", "item", "click", "timestamp", "split"])
    nulls = sum(column.null_count for column in table.columns)
    yield Finding("null_values", STOP if nulls else PASS, "missing users, items, clicks, times or splits", nulls)
    yield stop_if("split_names", log.split < 0, f"rows in a split that is none of {', '.join(SPLITS)}", _pair(log))
    yield stop_if("click_values", ~np.isin(log.click, (0, 1)), "clicks that are neither 0 nor 1", _pair(log))
    rated = ~np.isnan(log.rating)
    liked, rest = log.rating[rated & (log.click == 1)], log.rating[rated & (log.click == 0)]
    crossed = int((rest >= liked.min()).sum()) if len(liked) and len(rest) else 0
    yield Finding(
        "click_follows_rating", WARN if crossed else PASS,
        "rows not liked though rated as high as a liked one", crossed, int(rated.sum()),
    )  # fmt: skip
    odd = (log.timestamp <= 0) | (log.timestamp > _LATEST)
    yield stop_if("timestamps", odd, "times before 1970 or after 2100: not in seconds?", _pair(log), WARN)


def _counts(dataset: Path, log: InteractionLog) -> Iterator[Finding]:
    """The published n_train must be counts of the training split alone."""
    for kind in ("user", "item"):
        table = pq.read_table(dataset / f"{kind}s.parquet", columns=[kind, "n_train"])
        ids, listed = table[kind].to_numpy(), table["n_train"].to_numpy()
        true = np.bincount(getattr(log, kind)[log.train], minlength=int(ids.max(initial=0)) + 1)[ids]
        yield stop_if(
            f"{kind}_counts_from_train", listed != true,
            f"{kind}s whose n_train is not their number of training interactions: statistics saw held-out rows",
            lambda i, kind=kind, ids=ids: f"{kind} {ids[i]}",
        )  # fmt: skip


def _time(log: InteractionLog, split: str) -> Iterator[Finding]:
    held = (log.split == 1) | (log.split == 2)
    newest = log.timestamp[log.train].max(initial=0)
    future = held & (log.timestamp < newest)
    share = future.sum() / max(1, held.sum())
    level = PASS if not future.any() else STOP if split == "temporal" else WARN
    message = "val and test rows older than the newest training row: training knows later interactions of other users"
    yield Finding(
        "future_across_users", level, message, int(future.sum()), int(held.sum()), _first(log, future, share > 0)
    )
    wrong = np.zeros(len(log), dtype=bool)
    if split == "temporal":
        for earlier, later in ((0, 1), (0, 2), (1, 2)):
            before, after = log.split == earlier, log.split == later
            wrong |= after & (log.timestamp <= log.timestamp[before].max(initial=-1))
    elif split not in TIMELESS:
        # per user: nothing held out may be older than what the user is trained on
        for earlier, later in ((0, 1), (0, 2), (1, 2)):
            last = np.full(int(log.user.max(initial=0)) + 1, np.iinfo(np.int64).min)
            np.maximum.at(last, log.user[log.split == earlier], log.timestamp[log.split == earlier])
            wrong |= (log.split == later) & (log.timestamp < last[log.user])
    level = STOP if split in ("temporal", "leave_last_out") else WARN
    message = {
        "temporal": "rows that are not later than every row of an earlier split",
        "leave_last_out": "rows older than a row of the same user in an earlier split",
    }.get(split, "rows older than a row of the same user in an earlier split (the source's split)")
    yield Finding(
        "split_order", level if wrong.any() else PASS, message, int(wrong.sum()), len(log), _first(log, wrong)
    )


def _first(log: InteractionLog, hit: np.ndarray, wanted: bool = True) -> str | None:
    return _pair(log)(int(np.argmax(hit))) if wanted and hit.any() else None


def _cold(log: InteractionLog, split: str) -> Iterator[Finding]:
    test = np.flatnonzero(log.split == 2)
    for kind in ("user", "item"):
        ids = getattr(log, kind)
        cold = ~np.isin(ids[test], ids[log.train])
        level = WARN if cold.mean() > 0.5 and split != f"{kind}_cold" else PASS
        yield Finding(f"cold_{kind}s", level, f"test rows whose {kind} training never saw", int(cold.sum()), len(test))


def _users_scored(log: InteractionLog) -> Iterator[Finding]:
    if (log.click == 1).all():  # implicit feedback: there is no second class to miss
        return
    for code, name in ((1, "val"), (2, "test")):
        rows = log.split == code
        seen = np.bincount(log.user[rows])
        liked = np.bincount(log.user[rows], weights=log.click[rows] == 1)
        skipped = (seen > 0) & ((liked == 0) | (liked == seen))
        users = int((seen > 0).sum())
        level = WARN if skipped.sum() > 0.9 * users else PASS
        message = f"{name} users with one class only: UAUC skips them"
        yield Finding(f"uauc_users_{name}", level, message, int(skipped.sum()), users)
        classes = len(np.unique(log.click[rows]))
        if classes < 2:
            yield Finding(f"one_class_{name}", WARN, f"all {name} rows are of one class: AUC is undefined", 1, 1)


def _sequential(log: InteractionLog) -> Iterator[Finding]:
    for kind in ("user", "item"):
        ids = getattr(log, kind)
        first = np.full(int(ids.max(initial=0)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, ids, log.timestamp)
        there = np.flatnonzero(first < np.iinfo(np.int64).max)
        if len(there) < 10 or len(np.unique(first[there])) < 2:
            continue
        rho = float(spearmanr(there, first[there]).statistic)
        level = WARN if abs(rho) > 0.5 else PASS
        message = (
            f"rank correlation of {kind} ids with the time of first appearance; a model that reads ids would read time"
        )
        yield Finding(f"sequential_{kind}_ids", level, message, round(rho, 3))
