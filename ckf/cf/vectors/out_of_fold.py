"""Out-of-fold vectors: training examples get vectors of a CF model that was not fitted on them.

A CF model has seen the label of each row it was fitted on. A language model that learns from the same rows what
the vectors mean learns to trust them more than they deserve on new rows, where they are worse. So the training rows
are cut into folds and each fold's examples get the vectors of a model fitted on the others (the first level of
stacking: Wolpert 1992); every other example gets those of the model fitted on all.

The dimensions of two fits mean different things: each fold's vectors are rotated onto the whole model's (orthogonal
Procrustes: Schönemann 1966). That changes no score, as users and items are rotated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ckf.cf.data import CFData
from ckf.cf.models.base import CFModel
from ckf.cf.vectors.perturbation import with_noise
from ckf.core.errors import ArtifactError
from ckf.core.rng import hash_ids, hashed_uniform

FILE = "fold_vectors.safetensors"
Tables = tuple[np.ndarray, np.ndarray]


def fold_numbers(users: np.ndarray, items: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold, 1 to ``folds``, of each user-item pair: a function of the pair and the seed. [n]"""
    keys = (users.astype(np.uint64) << np.uint64(32)) | items.astype(np.uint64)
    return 1 + (hashed_uniform(seed, "fold of a training row", keys, 1)[:, 0] * folds).astype(np.int64)


def procrustes_align(tables: Tables, whole: Tables) -> np.ndarray:
    """The rotation [d, d] that brings two tables' vectors nearest to the whole model's; the bias column stays."""
    mine, theirs = (np.concatenate(pair).astype(np.float64)[:, :-1] for pair in (tables, whole))
    left, _, right = np.linalg.svd(mine.T @ theirs)
    rotation = np.eye(tables[0].shape[1])
    rotation[:-1, :-1] = left @ right
    return rotation.astype(np.float32)


@dataclass(frozen=True)
class FoldModel:
    """A model fitted without one fold: its filled and rotated tables, and the rotation [d, d] for further vectors."""

    model: CFModel
    tables: Tables
    rotation: np.ndarray


def fit_folds(
    fit: Callable[[CFData], CFModel],
    fill: Callable[[CFModel, CFData], Tables],
    data: CFData,
    whole: Tables,
    folds: int,
    seed: int,
) -> list[FoldModel]:
    """One model without each fold; ``fill`` gives a model's tables with their cold rows filled."""
    numbers = fold_numbers(data.train.user, data.train.item, folds, seed)
    found = []
    for number in range(1, folds + 1):
        part = replace(data, train=data.train.rows(numbers != number))
        model = fit(part)
        tables = fill(model, part)
        rotation = procrustes_align(tables, whole)
        found.append(FoldModel(model, (tables[0] @ rotation, tables[1] @ rotation), rotation))
    return found


def write_fold_vectors(out: Path, models: Sequence[FoldModel], examples: Path, seed: int) -> dict[str, int]:
    """Write each fold's tables, and which fold every training example belongs to; return counts for the manifest."""
    columns = ["example_id", "user", "item"]
    table = pq.read_table(examples / "examples.parquet", columns=columns, filters=[("split", "==", "train")])
    users, items = (table[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    keys = hash_ids(table["example_id"].to_pylist())
    numbers, order = fold_numbers(users, items, len(models), seed), np.argsort(keys, kind="stable")
    tables = [torch.from_numpy(np.stack([model.tables[side] for model in models])) for side in (0, 1)]
    save_file(
        {
            "keys": torch.from_numpy(keys[order].view(np.int64)),
            "folds": torch.from_numpy(numbers[order]),
            "users": tables[0],
            "items": tables[1],
        },
        out / FILE,
    )
    return {"folds": len(models), "examples": len(keys)}


@dataclass(frozen=True)
class FoldVectors:
    """Tables [folds, n + 1, d] of users and items; ``keys`` (sorted) and ``folds`` [n] of the training examples."""

    keys: np.ndarray
    folds: Tensor
    users: Tensor
    items: Tensor

    @classmethod
    def load(cls, folder: Path) -> FoldVectors | None:
        """Open those of an embeddings artifact, memory-mapped; None where it has none."""
        if not (folder / FILE).is_file():
            return None
        with safe_open(folder / FILE, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in ("keys", "folds", "users", "items")}
        return cls(found["keys"].numpy().view(np.uint64), found["folds"], found["users"], found["items"])

    def noisy(self, level: float, seed: int) -> FoldVectors:
        """The same with Gaussian noise of ``level`` times each dimension's spread, drawn as for the whole tables."""
        users, items = (
            torch.stack([with_noise(table, level, seed, kind) for table in getattr(self, kind)])
            for kind in ("users", "items")
        )
        return replace(self, users=users, items=items)

    def of(self, example_ids: Sequence[str]) -> Tensor:
        """The fold of each example [n]: from 1 for a training example, 0 for any other.

        Raises:
            ArtifactError: a training example that the artifact was not made for.
        """
        wanted = hash_ids(example_ids)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        known = torch.from_numpy(self.keys[place] == wanted)
        for name, found in zip(example_ids, known.tolist(), strict=True):
            if not found and "/train/" in name:
                raise ArtifactError(f"{FILE}: no fold for training example {name}; its CF model was made for others")
        return torch.where(known, self.folds[torch.from_numpy(place)], 0)
