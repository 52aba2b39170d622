"""Keys of interactions by content: the same event has the same key in every artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

TRAINED_ON = "trained_on.parquet"
"""Column ``key`` of the rows that a CF artifact was trained on."""

UNKNOWN = "unknown"
"""The manifest's value for the training rows of a CF artifact when they are not known."""


def raw_ids(dataset: Path, kind: str) -> np.ndarray:
    """Raw ids of a dataset's users or items by id, as text; "" for padding and gaps. [largest id + 1]"""
    table = pd.read_parquet(dataset / f"{kind}s.parquet", columns=[kind, "raw_id"])
    names = np.full(int(table[kind].max()) + 1, "", dtype=object)
    names[table[kind].to_numpy()] = table["raw_id"].astype(str).to_numpy()
    return names


def id_text(value: object) -> str:
    """An id as the data writes it: without white space around it, a whole float (``5.0``) as the integer it was."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def ids_by_raw(names: np.ndarray) -> dict[str, int]:
    """The internal id of each raw id, from `raw_ids`. Look one up by its `id_text`."""
    return {str(name): number for number, name in enumerate(names) if name != ""}


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
