"""CF vectors on disk: memory-mapped tables from which the collator gathers what a batch needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ckf.cf.vectors.out_of_fold import FoldVectors
from ckf.cf.vectors.per_example_users import ExampleUsers
from ckf.cf.vectors.perturbation import with_noise
from ckf.core.errors import ArtifactError, DataError
from ckf.core.rng import generator_for

_BLOCKS, _ROWS = 200, 500  # neighbouring rows whose statistics represent a larger table


@dataclass(frozen=True)
class PermutedTable:
    """A table [n + 1, d] with its rows in another order; they are gathered from where they lie, nothing is copied."""

    table: Tensor
    order: Tensor

    def __getitem__(self, ids: int | slice | Tensor) -> Tensor:
        return self.table[self.order[ids]]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def shape(self) -> torch.Size:
        """As of the table."""
        return self.table.shape


@dataclass
class VectorTables:
    """User and item vectors, [n + 1, d] each; row 0 is padding, a row of zeros is a cold id.

    ``example_users``: a user vector for each example, for models that read a history; ``users`` are then those of an
    empty history. ``folds``: vectors of training examples from models that were not fitted on them. The shuffled
    control has neither.
    """

    users: Tensor | PermutedTable
    items: Tensor | PermutedTable
    example_users: ExampleUsers | None = None
    folds: FoldVectors | None = None

    @property
    def dim(self) -> int:
        """Width d of a vector."""
        return int(self.items.shape[1])

    @classmethod
    def load(cls, folder: Path) -> VectorTables:
        """Open the tables of an embeddings artifact without reading them into memory."""
        users, items = (_open(folder / f"{kind}.safetensors") for kind in ("users", "items"))
        if users.shape[1] != items.shape[1]:
            raise ArtifactError(f"{folder}: user vectors are {users.shape[1]} wide, item vectors {items.shape[1]}")
        return cls(users, items, ExampleUsers.load(folder), FoldVectors.load(folder))

    def folds_of(self, example_ids: Sequence[str]) -> Tensor | None:
        """The fold of each example [n], 0 for those that the model was not fitted on; None without folds."""
        return None if self.folds is None else self.folds.of(example_ids)

    def gather(self, kind: str, ids: Tensor, folds: Tensor | None = None) -> Tensor:
        """Vectors of some ids, ``kind`` user or item, each of its fold. [*ids.shape, d]

        Raises:
            DataError: an id beyond the table.
        """
        table = self.users if kind == "user" else self.items
        if ids.numel() and int(ids.max()) >= len(table):
            raise DataError(
                f"{kind} {int(ids.max())} has no row in the CF vectors (they end at {len(table) - 1}); "
                "they were made for other data"
            )
        found = table[ids]
        if self.folds is None or folds is None or not folds.any():
            return found
        of_folds = self.folds.users if kind == "user" else self.folds.items
        mine = folds > 0
        return found.index_put((mine,), of_folds[folds[mine] - 1, ids[mine]])

    def shuffled(self, seed: int) -> VectorTables:
        """The control: every user gets another user's vector, every item another item's (padding stays)."""
        return VectorTables(_shuffle(self.users, seed, "users"), _shuffle(self.items, seed, "items"))

    def noisy(self, level: float, seed: int) -> VectorTables:
        """The tables with Gaussian noise, in units of each dimension's spread over the trained rows."""
        example_users = None if self.example_users is None else self.example_users.noisy(level, seed)
        users, items = (with_noise(getattr(self, kind), level, seed, kind) for kind in ("users", "items"))
        return VectorTables(users, items, example_users, None if self.folds is None else self.folds.noisy(level, seed))


@dataclass(frozen=True)
class Histories:
    """What each user had liked in train, oldest first: ``items`` from ``offsets[u]`` to ``offsets[u + 1]``."""

    offsets: Tensor
    items: Tensor

    @classmethod
    def load(cls, folder: Path) -> Histories:
        """Open the histories of an embeddings artifact without reading them into memory."""
        path = folder / "histories.safetensors"
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file")
        with safe_open(path, framework="pt") as file:
            return cls(file.get_tensor("offsets"), file.get_tensor("items"))

    def of(self, user: int) -> Tensor:
        """Items of one user; none for a user that train never met, or beyond the table."""
        if not 0 <= user < len(self.offsets) - 1:
            return self.items[:0]
        return self.items[self.offsets[user] : self.offsets[user + 1]]


def _open(path: Path) -> Tensor:
    """Map a table. `ckf.cf.vectors.artifact` checked that its numbers are finite when it was written."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    with safe_open(path, framework="pt") as file:  # memory-mapped: pages are read when rows are gathered
        tensor: Tensor = file.get_tensor("vectors")
    return tensor


def trained_rows(table: Tensor | PermutedTable) -> Tensor:
    """The rows that are not empty, in float32; of a large table those of blocks spread over it evenly.

    Single rows drawn at random would bring nearly every page of a mapped file into memory.
    """
    if len(table) > _BLOCKS * _ROWS:
        table = table.table if isinstance(table, PermutedTable) else table  # the same rows in stored order
        starts = np.linspace(0, len(table) - _ROWS, _BLOCKS).astype(np.int64)
        rows = torch.cat([table[start : start + _ROWS] for start in starts.tolist()])
    else:
        rows = table[:]
    return rows[(rows != 0).any(dim=1)].float()


def _shuffle(table: Tensor | PermutedTable, seed: int, kind: str) -> PermutedTable:
    order = generator_for(seed, f"shuffle {kind}").permutation(np.arange(1, len(table)))
    places = torch.from_numpy(np.concatenate([[0], order]))
    if isinstance(table, PermutedTable):
        return PermutedTable(table.table, table.order[places])
    return PermutedTable(table, places)
