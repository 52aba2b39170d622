"""User vectors of prompts that are not prepared examples, for CF models that read a history."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from ckf.cf.vectors.per_example_users import ExampleUsers
from ckf.cf.vectors.tables import VectorTables
from ckf.core.rng import hash_ids
from ckf.data.example_table import Example
from ckf.data.interactions import lists_of
from ckf.prompts.collate import Collators


class AdhocUserVectors:
    """Vectors by user and history.

    The CF model itself is not kept, its vectors as of each example are. So a prompt gets that of an example of
    the same user with the same history, else of the user's latest example; an unknown user has the zero vector.
    """

    def __init__(self, examples: Path) -> None:
        self.path = examples / "examples.parquet"

    @cached_property
    def _index(self) -> tuple[dict[tuple[int, bytes], str], dict[int, str]]:
        table = pq.read_table(self.path, columns=["example_id", "user", "history", "timestamp"])
        names, users = table["example_id"].to_pylist(), table["user"].to_numpy()
        histories = lists_of(table["history"])
        exact = {
            (int(users[row]), histories.values[histories.offsets[row] : histories.offsets[row + 1]].tobytes()): names[
                row
            ]
            for row in range(len(names))
        }
        latest = {int(users[row]): names[row] for row in np.argsort(table["timestamp"].to_numpy(), kind="stable")}
        return exact, latest

    def of(self, tables: VectorTables, examples: Sequence[Example]) -> torch.Tensor:
        """User vectors of some prompts. [n, d]"""
        if tables.example_users is None:
            return tables.users[torch.tensor([x.user if x.user < len(tables.users) else 0 for x in examples])]
        exact, latest = self._index
        found = torch.zeros(len(examples), tables.dim)
        for row, example in enumerate(examples):
            name = exact.get((example.user, example.history.astype(np.int32).tobytes()), latest.get(example.user))
            if name is not None:
                found[row] = tables.example_users.of([name])[0]
        return found

    def collators(self, collators: Collators, examples: Sequence[Example]) -> Collators:
        """Return the collators with these prompts' user vectors, where user vectors are looked up by example."""
        tables = collators.tables
        if tables is None or tables.example_users is None:
            return collators
        names = list(dict.fromkeys(example.example_id for example in examples))
        by_name = {example.example_id: example for example in examples}
        keys = hash_ids(names)
        order = np.argsort(keys, kind="stable")
        vectors = self.of(tables, [by_name[name] for name in names])[torch.from_numpy(order)]
        return collators.with_tables(dataclasses.replace(tables, example_users=ExampleUsers(keys[order], vectors)))
