"""Which interactions a CF model was trained on, as keys of the rows, and the refusal of those that are evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ckf.artifacts import read_json
from ckf.errors import ArtifactError

TRAINED_ON = "trained_on.parquet"
UNKNOWN = "unknown"
SHOWN = 3
"""How many of the overlapping rows an error names."""


def raw_ids(dataset: Path, kind: str) -> np.ndarray:
    """Raw ids of a dataset's users or items by id, as text; "" for padding and gaps. [largest id + 1]"""
    table = pd.read_parquet(dataset / f"{kind}s.parquet", columns=[kind, "raw_id"])
    names = np.full(int(table[kind].max()) + 1, "", dtype=object)
    names[table[kind].to_numpy()] = table["raw_id"].astype(str).to_numpy()
    return names


def row_keys(
    users: np.ndarray, items: np.ndarray, timestamps: np.ndarray, of: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Keys of interactions by content, uint64 [n]; ``of`` are the raw ids of users and items (`raw_ids`).

    Made of raw ids and timestamp, the key of an event is the same in every dataset artifact, whatever
    was filtered, renumbered or split otherwise.
    """
    user, item = (_hashed(names)[ids] for names, ids in zip(of, (users, items), strict=True))
    return _mixed(_mixed(_mixed(user) ^ item) ^ timestamps.astype(np.int64).view(np.uint64))


def _hashed(names: Iterable[object]) -> np.ndarray:
    digests = (hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").copy()


def _mixed(values: np.ndarray) -> np.ndarray:
    """Finaliser of splitmix64 (Steele, Lea and Flood 2014): a bijection that spreads every bit."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def write_trained_on(out: Path, keys: np.ndarray) -> dict[str, object]:
    """Keep the keys of what a model was trained on; return what the manifest says of them."""
    keys = np.sort(keys)
    pd.DataFrame({"key": keys}).to_parquet(out / TRAINED_ON, index=False)
    return {"rows": len(keys), "keys_sha256": hashlib.sha256(keys.astype("<u8").tobytes()).hexdigest()}


def is_unknown(cf: Path) -> bool:
    """Whether nobody said what the vectors of a CF artifact were trained on."""
    return bool(read_json(cf / "manifest.json").get("trained_on") == UNKNOWN)


def refuse_overlap(cf: Path, dataset: Path, splits: Iterable[str]) -> None:
    """Stop when a CF artifact was trained on rows of the splits that are evaluated.

    An artifact of unknown origin passes, as there is nothing to intersect: its results are stamped.

    Raises:
        ArtifactError: rows in common (how many, and the first), or an artifact that does not say.
    """
    if is_unknown(cf):
        return
    path, wanted = cf / TRAINED_ON, sorted(set(splits))
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file, so leakage cannot be excluded; delete {cf} and run `ckf cf` again")
    seen = pd.read_parquet(path, columns=["key"])["key"].to_numpy()
    rows = pd.read_parquet(
        dataset / "interactions.parquet",
        columns=["user", "item", "timestamp", "split"],
        filters=[("split", "in", wanted)],
    )
    names = raw_ids(dataset, "user"), raw_ids(dataset, "item")
    users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
    keys = row_keys(users, items, rows["timestamp"].to_numpy(), of=names)
    common = np.flatnonzero(np.isin(keys, seen))
    if len(common):
        first = "; ".join(
            f"user {names[0][users[row]]}, item {names[1][items[row]]} at {rows['timestamp'].iloc[row]}"
            for row in common[:SHOWN]
        )
        raise ArtifactError(
            f"{cf}: its CF model was trained on {len(common)} of the {len(rows)} rows of {', '.join(wanted)} "
            f"(first: {first}); train it without them (`ckf cf` does), or evaluate another split"
        )
