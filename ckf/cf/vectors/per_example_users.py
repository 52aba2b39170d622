"""Per-example user vectors of models that read a history: computed from the history before each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ckf.cf.data import CFBatch
from ckf.cf.features.padded_histories import padded_histories
from ckf.cf.models.base import CFModel
from ckf.cf.vectors.out_of_fold import FoldModel, fold_numbers
from ckf.cf.vectors.perturbation import with_noise
from ckf.core.errors import ArtifactError
from ckf.core.rng import hash_ids

FILE = "example_users.safetensors"


def write_example_users(
    out: Path, model: CFModel, examples: Path, folds: Sequence[FoldModel] = (), seed: int = 0
) -> dict[str, int]:
    """Write a user vector for each example from its own history, which holds nothing later than it.

    Those of training examples are of the model that was fitted without their fold, where there are folds.
    """
    columns = ["example_id", "user", "item", "split", "history"]
    table = pq.read_table(examples / "examples.parquet", columns=columns)
    user = table["user"].to_numpy().astype(np.int64)
    histories = padded_histories(table["history"], model.history_items)
    vectors = model.user_vectors(CFBatch(user, np.zeros_like(user), histories))
    assert vectors is not None, "models that read a history and have vectors have these"
    vectors = vectors.copy()
    in_train = np.asarray(table["split"].to_pylist(), dtype=object) == "train"
    numbers = fold_numbers(user, table["item"].to_numpy().astype(np.int64), max(1, len(folds)), seed)
    for number, fold in enumerate(folds, start=1):
        rows = np.flatnonzero(in_train & (numbers == number))
        batch = CFBatch(user[rows], np.zeros_like(rows), histories[rows])
        vectors[rows] = fold.model.user_vectors(batch) @ fold.rotation
    keys = hash_ids(table["example_id"].to_pylist())
    order = np.argsort(keys, kind="stable")
    save_file(
        {"keys": torch.from_numpy(keys[order].view(np.int64)), "vectors": torch.from_numpy(vectors[order])}, out / FILE
    )
    return {"examples": len(keys), "dim": vectors.shape[1]}


@dataclass(frozen=True)
class ExampleUsers:
    """The vectors [n, d], found by the key of their example; ``keys`` are sorted as unsigned numbers."""

    keys: np.ndarray
    vectors: Tensor

    @classmethod
    def load(cls, folder: Path) -> ExampleUsers | None:
        """Open those of an embeddings artifact, memory-mapped; None where the model reads no history."""
        if not (folder / FILE).is_file():
            return None
        with safe_open(folder / FILE, framework="pt") as file:
            return cls(file.get_tensor("keys").numpy().view(np.uint64), file.get_tensor("vectors"))

    def noisy(self, level: float, seed: int) -> ExampleUsers:
        """The same with Gaussian noise of ``level`` times each dimension's spread."""
        return ExampleUsers(self.keys, with_noise(self.vectors, level, seed, "example users"))

    def of(self, example_ids: Sequence[str]) -> Tensor:
        """Vectors of some examples. [len(example_ids), d]

        Raises:
            ArtifactError: an example that the artifact was not made for.
        """
        wanted = hash_ids(example_ids)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        missing = np.flatnonzero(self.keys[place] != wanted)
        if len(missing):
            raise ArtifactError(
                f"{FILE}: no user vector for example {example_ids[missing[0]]} ({len(missing)} missing)"
            )
        return self.vectors[torch.from_numpy(place)]
