"""The dataset's card: every count for machines (`manifest.json`) and for readers (`card.md`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from ckf.config.schema import SplitConfig
from ckf.data.clean import SPLITS
from ckf.data.filters import different
from ckf.data.log import normalised_titles

_LABELS = {"warm_seen": "user and item in train", "warm_3": "each at least 3 times in train"}


def describe(rows: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, split: SplitConfig) -> dict[str, Any]:
    """Counts of the finished dataset; ``rows`` in the artifact's ids, with ``review_bytes``."""
    of_user, of_item = (np.bincount(rows[kind].to_numpy()) for kind in ("user", "item"))
    pairs = np.count_nonzero(of_user) * np.count_nonzero(of_item)
    present = rows["split"].unique().to_list()
    earlier, at_once = _earlier(rows)
    lengths = rows["history_length"].to_numpy() if "history_length" in rows.columns else earlier
    return {
        "interactions": rows.height,
        "users": int(np.count_nonzero(of_user)),
        "items": items.height,
        "sparsity": round(1 - rows.height / float(pairs), 6),
        "first_timestamp": rows["timestamp"].min(),
        "last_timestamp": rows["timestamp"].max(),
        "split": split.name,
        "splits": {name: _part(rows, users, items, name) for name in (*SPLITS, "history") if name in present},
        "ratings": _histogram(rows["rating"].drop_nulls()),
        "interactions_per_user": _powers(of_user[of_user > 0]),
        "interactions_per_item": _powers(of_item[of_item > 0]),
        "history_lengths": _powers(lengths),
        "reviews": int((rows["review_bytes"] > 0).sum()),
        "rows_at_the_same_second_as_another_of_the_user": at_once,
        "titles": _titles(items),
    }


def _part(rows: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, name: str) -> dict[str, Any]:
    part = rows.filter(pl.col("split") == name)
    ids = part["user"].to_numpy(), part["item"].to_numpy()
    in_train = [table["n_train"].to_numpy()[mine - 1] for table, mine in zip((users, items), ids, strict=True)]
    fewest = np.minimum(*in_train)
    return {
        "interactions": part.height,
        "users": different(part["user"]),
        "items": different(part["item"]),
        "liked_share": round(float(part["click"].mean()), 4),  # type: ignore[arg-type]
        "warm_seen": int((fewest >= 1).sum()),
        "warm_3": int((fewest >= 3).sum()),
        "cold_users": len(np.unique(ids[0][in_train[0] == 0])),
        "cold_items": len(np.unique(ids[1][in_train[1] == 0])),
        "first_timestamp": part["timestamp"].min(),
        "last_timestamp": part["timestamp"].max(),
    }


def _earlier(rows: pl.DataFrame) -> tuple[np.ndarray, int]:
    """How many interactions of its user are earlier than each one, in any order of the rows (int64 [n]); and
    how many share their second with another of the user.
    """
    times = rows["timestamp"].to_numpy()
    seconds = np.searchsorted(np.unique(times), times) if len(times) else times
    ordered = np.sort(rows["user"].to_numpy().astype(np.int64) << 32 | seconds)
    new_user = np.append(True, np.diff(ordered >> 32) > 0)
    new_second = np.append(True, np.diff(ordered) > 0)
    place = np.arange(len(ordered))
    of_second, of_user = (np.maximum.accumulate(np.where(new, place, 0)) for new in (new_second, new_user))
    alone = new_second & np.append(new_second[1:], True)
    return of_second - of_user, int((~alone).sum())


def _histogram(values: pl.Series) -> dict[str, int]:
    table = values.value_counts(name="n").sort(values.name)
    return {f"{value:g}": n for value, n in table.iter_rows()}


def _powers(values: np.ndarray) -> dict[str, int]:
    """Histogram by powers of two: 0, 1, 2-3, 4-7, …"""
    found: dict[str, int] = {}
    counts = np.bincount(np.frexp(values.astype(np.float64))[1])  # 0 for 0, 1 for 1, 2 for 2 and 3, …
    for power, n in enumerate(counts.tolist()):
        low, high = (1 << power) >> 1, (1 << power) - 1
        if n or low:
            found[str(low) if high == low else f"{low}-{high}"] = n
    return found


def _titles(items: pl.DataFrame) -> dict[str, Any]:
    keys = normalised_titles(items["item"].to_list(), items["title"].to_list())
    names = pl.Series("key", [keys[item] for item in items["item"]], dtype=pl.String)
    shared = items.select("title").with_columns(names).filter(names.is_duplicated())
    first = shared.filter(pl.col("key") == shared["key"][0])["title"].to_list()[:3] if shared.height else []
    return {
        "different": names.n_unique(),
        "shared_by_several_items": shared["key"].n_unique(),
        "items_that_share_one": shared.height,
        "first_shared": first,
    }


# --- for readers


def card_text(manifest: Mapping[str, Any]) -> str:
    """The manifest as Markdown."""
    name = manifest["dataset"]
    lines = [f"# Dataset card: {name}", "", f"Source: {manifest.get('source', name)}"]
    lines += [f"{key.capitalize()}: {manifest[key]}" for key in ("licence", "citation") if manifest.get(key)]
    lines += ["", "## Rows left after each step", ""]
    lines += _table(["step", "rows", "users", "items"], [list(step.values()) for step in manifest["steps"]])
    lines += ["", *_bad_lines(manifest["bad_rows"]), "", *_duplicate_lines(manifest["duplicates"])]
    lines += ["", f"## Split: {manifest['split']}", "", *_split_lines(manifest["splits"])]
    lines += ["", "Warm by two definitions, from training rows alone: "]
    lines[-1] += "; ".join(f"`{key}`: {text}" for key, text in _LABELS.items()) + "."
    span = " to ".join(_day(manifest[key]) for key in ("first_timestamp", "last_timestamp"))
    lines += ["", "## Size", "", f"{manifest['interactions']:,} interactions of {manifest['users']:,} users with"]
    lines[-1] += f" {manifest['items']:,} items, {100 * manifest['sparsity']:.3f}% of all pairs empty; {span}."
    lines += [f"{manifest['reviews']:,} have a review; "]
    lines[-1] += f"{manifest['rows_at_the_same_second_as_another_of_the_user']:,} share their second with another row"
    lines[-1] += " of the same user."
    for key in ("ratings", "interactions_per_user", "interactions_per_item", "history_lengths"):
        if manifest[key]:
            lines += ["", f"### {key.replace('_', ' ').capitalize()}", "", *_bars(manifest[key])]
    lines += ["", "## Titles", "", *_listed(manifest["titles"])]
    lines += ["", "## Counts of the reader", "", *_listed(manifest.get("reader", {}))]
    lines += [
        "",
        "## Source files (SHA-256)",
        "",
        *[f"- `{name}`: {digest}" for name, digest in manifest["files"].items()],
    ]
    return "\n".join(lines) + "\n"


def _bad_lines(bad: Mapping[str, Any]) -> list[str]:
    text = f"Rows that could not be used: {bad['total']:,} (dataset.max_bad_rows={bad['allowed']})."
    rows = [[kind, found["count"], "; ".join(found["first"])] for kind, found in bad["kinds"].items()]
    return [text, "", *_table(["kind", "rows", "first of them"], rows)] if rows else [text]


def _duplicate_lines(found: Mapping[str, Any]) -> list[str]:
    return [
        f"Repeated (user, item) pairs: {found['exact_copies_dropped']:,} exact copies and "
        f"{found['other_repeats_dropped']:,} others dropped (dataset.duplicates={found['policy']})."
    ]


def _split_lines(parts: Mapping[str, Any]) -> list[str]:
    heads = ["interactions", "users", "items", "liked_share", "warm_seen", "warm_3", "cold_users", "cold_items"]
    rows = [
        [name, *(part[head] for head in heads), _day(part["first_timestamp"]), _day(part["last_timestamp"])]
        for name, part in parts.items()
    ]
    return _table(["split", *(head.replace("_", " ") for head in heads), "first day", "last day"], rows)


def _table(heads: list[str], rows: list[list[Any]]) -> list[str]:
    def cell(value: Any) -> str:
        text = f"{value:,}" if isinstance(value, int) else str(value)
        return text.replace("|", "\\|").replace("\n", " ")

    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell(value) for value in line) + " |" for line in lines]


def _bars(counts: Mapping[str, int]) -> list[str]:
    most = max(counts.values())
    width = max(len(name) for name in counts)
    bars = [f"{name:>{width}}  {'█' * round(40 * n / most)} {n:,}" for name, n in counts.items()]
    return ["```", *bars, "```"]


def _listed(values: Mapping[str, Any]) -> list[str]:
    if not values:
        return ["none"]
    return [f"- {key.replace('_', ' ')}: {value:,}" if isinstance(value, int) else f"- {key.replace('_', ' ')}: {value}"
            for key, value in values.items()]  # fmt: skip


def _day(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d")
