"""Write the embeddings artifact: tables, histories, keys of the training rows, and the figures of each epoch.

`users.safetensors` and `items.safetensors` hold ``vectors`` [n + 1, d], row 0 padding, memory-mapped
by `ckf.cf.vectors.tables`. They are checked here, when they are written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from ckf.cf.data import CFData, Interactions
from ckf.cf.leakage_check import write_trained_on
from ckf.cf.vectors.cold_start import impute_cold
from ckf.core.artifact_store import json_text
from ckf.core.errors import ArtifactError
from ckf.data.interaction_keys import raw_ids, row_keys

EPOCHS = "metrics.jsonl"


def write_tables(
    out: Path,
    tables: tuple[np.ndarray, np.ndarray],
    data: CFData,
    cold: str,
    l2: float,
    nulls: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> dict[str, dict[str, Any]]:
    """Write both tables with their cold rows filled; return coverage and norms for the manifest.

    ``nulls``: the vectors of cold users and cold items that were learned, for ``cold="learned"``.

    Raises:
        ArtifactError: a table of the wrong height, of another width than its partner, or with NaN.
    """
    if tables[0].shape[1] != tables[1].shape[1]:
        widths = " and ".join(str(table.shape[1]) for table in tables)
        raise ArtifactError(f"user and item vectors are {widths} wide; one width is needed for both")
    filled = filled_tables(tables, data, cold, l2, nulls)
    coverage = {}
    for kind, table, whole, ids in zip(
        ("users", "items"), tables, filled, (data.train.user, data.train.item), strict=True
    ):
        save_file({"vectors": torch.from_numpy(whole)}, out / f"{kind}.safetensors")
        coverage[kind] = {**_coverage(table, whole, _seen(ids, len(table))), "cold": cold}
    return coverage


def filled_tables(
    tables: tuple[np.ndarray, np.ndarray],
    data: CFData,
    cold: str,
    l2: float,
    nulls: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> tuple[np.ndarray, np.ndarray]:
    """Both tables, float32, with the rows of ids that ``data.train`` never met filled by the rule ``cold``.

    Raises:
        ArtifactError: a table of the wrong height, or with NaN.
    """
    found = []
    for kind, table, ids, largest, titles, null in (
        ("users", tables[0], data.train.user, data.n_users, None, nulls[0]),
        ("items", tables[1], data.train.item, data.n_items, data.titles or None, nulls[1]),
    ):
        if len(table) != largest + 1:
            raise ArtifactError(f"{kind}: {len(table)} vectors for ids 0 to {largest}")
        filled = impute_cold(table, _seen(ids, len(table)), cold, titles, l2, null)
        found.append(np.ascontiguousarray(filled, dtype=np.float32))
        check_finite(found[-1], f"{kind} of the CF model")
    return found[0], found[1]


def _seen(ids: np.ndarray, count: int) -> np.ndarray:
    seen = np.zeros(count, dtype=bool)
    seen[ids] = True
    return seen


def check_finite(table: np.ndarray, what: str) -> None:
    """Stop at the first row with NaN or infinity.

    Raises:
        ArtifactError: names the row and how many there are.
    """
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        raise ArtifactError(f"{what}: row {bad[0]} holds NaN or infinity ({len(bad)} such rows of {len(table)})")


def _coverage(table: np.ndarray, filled: np.ndarray, seen: np.ndarray) -> dict[str, Any]:
    """Rows with a vector of the model, cold rows and how many of those were filled, and the norms."""
    has = table.any(axis=1)
    norms = np.linalg.norm(table[has].astype(np.float64), axis=1)
    metadata: dict[str, Any] = {
        "rows": len(table) - 1,
        "dim": table.shape[1],
        "in_train": int(seen.sum()),
        "trained": int(has.sum()),
        "cold_filled": int((filled.any(axis=1) & ~has).sum()),
        "empty": int((~filled[1:].any(axis=1)).sum()),
    }
    if len(norms):
        figures = {"min": norms.min(), "median": np.median(norms), "mean": norms.mean(), "max": norms.max()}
        metadata["norms"] = {name: round(float(value), 4) for name, value in figures.items()}
    return metadata


def write_histories(out: Path, train: Interactions, n_users: int) -> dict[str, int]:
    """Write what each user had liked in train, oldest first, as ``offsets`` [n_users + 2] and ``items``."""
    liked = np.flatnonzero(train.click > 0)
    order = liked[np.lexsort((liked, train.times[liked], train.user[liked]))]
    counts = np.bincount(train.user[order], minlength=n_users + 1)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    items = train.item[order].astype(np.int32)
    save_file({"offsets": torch.from_numpy(offsets), "items": torch.from_numpy(items)}, out / "histories.safetensors")
    return {"users": int((counts > 0).sum()), "items": len(items)}


def write_training_rows(out: Path, train: Interactions, dataset: Path) -> dict[str, object]:
    """Write the keys of the rows that the model was fitted on; they prove that no evaluated row is among them."""
    names = raw_ids(dataset, "user"), raw_ids(dataset, "item")
    return {"split": "train", **write_trained_on(out, row_keys(train.user, train.item, train.times, of=names))}


def write_epochs(out: Path, epochs: Sequence[dict[str, float]]) -> None:
    """Write what was measured after each epoch, one JSON object a line."""
    if epochs:
        found = ({key: value for key, value in line.items() if math.isfinite(value)} for line in epochs)
        text = "".join(json_text(line) + "\n" for line in found)
        (out / EPOCHS).write_text(text, encoding="utf-8")
