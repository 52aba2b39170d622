"""Keys of the interactions that a CF model was trained on, and the check that none of them is evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ckf.core.artifact_store import read_json
from ckf.core.errors import ArtifactError
from ckf.data.interaction_keys import TRAINED_ON, UNKNOWN, raw_ids, row_keys

SHOWN = 3
"""How many of the overlapping rows an error names."""


def write_trained_on(out: Path, keys: np.ndarray) -> dict[str, object]:
    """Write the keys of the training rows; return their count and hash for the manifest."""
    keys = np.sort(keys)
    pd.DataFrame({"key": keys}).to_parquet(out / TRAINED_ON, index=False)
    return {"rows": len(keys), "keys_sha256": hashlib.sha256(keys.astype("<u8").tobytes()).hexdigest()}


def is_unknown(cf: Path) -> bool:
    """Whether the training rows of a CF artifact are unknown (external vectors without ``cf.trained_on``)."""
    return bool(read_json(cf / "manifest.json").get("trained_on") == UNKNOWN)


def check_no_overlap(cf: Path, dataset: Path, splits: Iterable[str]) -> None:
    """Stop when a CF artifact was trained on rows of the splits that are evaluated.

    An artifact of unknown origin passes, as there is nothing to compare; its results carry a caveat.

    Raises:
        ArtifactError: rows in common (how many, and the first), or an artifact without its list of training rows.
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
