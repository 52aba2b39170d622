"""Source to dataset: one pipeline behind every reader, with a count at every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ckf.artifacts import file_hash, write_json
from ckf.config.schema import CollmConfig, DatasetConfig, SplitConfig, SyntheticConfig
from ckf.data.collm import FILES, read_collm
from ckf.data.source import Source
from ckf.data.splits import SPLITS, assign_split
from ckf.data.synthetic import make_synthetic
from ckf.errors import DataError


def source_hashes(cfg: DatasetConfig) -> dict[str, str]:
    """Content hash of every input file by name; empty for data that is made.

    Raises:
        DataError: an input file is missing.
    """
    if not isinstance(cfg, CollmConfig):
        return {}
    paths = [Path(cfg.root) / name for name in FILES.values()]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"dataset.root: {cfg.root} lacks {', '.join(missing)}; it must hold {', '.join(FILES.values())}"
        )
    return {path.name: file_hash(path) for path in paths}


def build_dataset(cfg: DatasetConfig, split: SplitConfig, out: Path) -> None:
    """Write interactions, items, users, manifest (and the known scores of built-in data) to ``out``.

    Raises:
        DataError: input that cannot be used, or a split without rows.
    """
    match cfg:
        case SyntheticConfig():
            source = make_synthetic(cfg)
        case CollmConfig():
            source = read_collm(cfg)
        case _:
            raise TypeError(f"no reader for {type(cfg).__name__}; add a case in ckf/data/prepare.py")
    write_dataset(source, split, out, source_hashes(cfg))


def write_dataset(source: Source, split: SplitConfig, out: Path, hashes: dict[str, str]) -> None:
    """Check, split, sort and write a source's tables."""
    # a pair rated twice in one second differs in its rating or review alone: only with them is the order total
    order = ["timestamp", "user", "item", "rating", "click", "review"]
    rows = source.interactions.sort_values(order, kind="stable").reset_index(drop=True)
    repeated = rows.duplicated(["user", "item"])
    rows = rows[~repeated].reset_index(drop=True)
    rows["split"] = assign_split(rows, split)
    for name in SPLITS:
        if not (rows["split"] == name).any():
            raise DataError(f"split {split.name}: no interaction is left for '{name}' of {len(rows)} in all")
    train = rows[rows["split"] == "train"]
    users, items = (
        table.sort_values(kind).assign(n_train=_counts(table[kind], train[kind]))
        for table, kind in ((source.users, "user"), (source.items, "item"))
    )
    unnamed = sorted(set(rows["item"]) - set(items["item"]))
    if unnamed:
        raise DataError(f"{len(unnamed)} items have no title, first of them: {unnamed[0]}")
    _write_interactions(rows, out / "interactions.parquet")
    users[["user", "raw_id", "n_train"]].to_parquet(out / "users.parquet", index=False)
    items[["item", "raw_id", "title", "n_train"]].to_parquet(out / "items.parquet", index=False)
    if source.known is not None:
        source.known.to_parquet(out / "known.parquet", index=False)
    write_json(out / "manifest.json", _manifest(source, rows, split, int(repeated.sum()), hashes))


def _counts(ids: pd.Series, seen: pd.Series) -> pd.Series:
    return ids.map(seen.value_counts()).fillna(0).astype("int32")


def _write_interactions(rows: pd.DataFrame, path: Path) -> None:
    columns = {
        "user": pa.array(rows["user"], pa.int32()),
        "item": pa.array(rows["item"], pa.int32()),
        "rating": pa.array(rows["rating"].to_numpy(), pa.float32()),
        "click": pa.array(rows["click"], pa.int8()),
        "timestamp": pa.array(rows["timestamp"], pa.int64()),
        "review": pa.array(rows["review"].tolist(), pa.string()),
        "split": pa.array(rows["split"].tolist(), pa.string()),
    }
    if "history" in rows:
        columns["history"] = pa.array(rows["history"].tolist(), pa.list_(pa.int32()))
    pq.write_table(pa.table(columns), path)


def _manifest(
    source: Source, rows: pd.DataFrame, split: SplitConfig, repeated: int, hashes: dict[str, str]
) -> dict[str, Any]:
    train = rows[rows["split"] == "train"]
    seen = {kind: train[kind].value_counts() for kind in ("user", "item")}
    parts = {}
    for name in SPLITS:
        part = rows[rows["split"] == name]
        fewest = pd.concat([part[kind].map(seen[kind]).fillna(0) for kind in ("user", "item")], axis=1).min(axis=1)
        parts[name] = {
            "interactions": len(part),
            "users": int(part["user"].nunique()),
            "items": int(part["item"].nunique()),
            "liked_share": round(float(part["click"].mean()), 4),
            "warm_seen": int((fewest >= 1).sum()),
            "warm_3": int((fewest >= 3).sum()),
            "first_timestamp": int(part["timestamp"].min()),
            "last_timestamp": int(part["timestamp"].max()),
        }
    ratings = rows["rating"].dropna()
    return {
        **source.card,
        "repeated_user_item_pairs_dropped": repeated,
        "users": int(rows["user"].nunique()),
        "items": len(source.items),
        "split": split.name,
        "splits": parts,
        "ratings": {f"{value:g}": int(n) for value, n in ratings.value_counts().sort_index().items()},
        "reviews": int(rows["review"].notna().sum()),
        "files": hashes,
    }
