"""User vectors by example: each from its own history, none from a later item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ckf.cf.fit import build_cf
from ckf.cf.vectors.per_example_users import ExampleUsers
from ckf.config.schema import MFConfig, SASRecConfig
from ckf.core.errors import ArtifactError
from ckf.data.readers.synthetic import make_synthetic
from tests.worlds import SMALL, write_world

SHORT = {"dim": 4, "epochs": 4, "batch_size": 128, "folds": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_world(tmp_path_factory.mktemp("per_example_users"), make_synthetic(SMALL), tasks=["ctr"])


def test_the_vector_of_an_example_is_a_function_of_its_user_and_history(world, tmp_path):
    build_cf(SASRecConfig("sasrec", history_items=5, **SHORT), *world, seed=0, out=tmp_path)
    found = ExampleUsers.load(tmp_path)
    assert found is not None
    table = pd.read_parquet(world[1] / "examples.parquet")
    vectors = found.of(table["example_id"].tolist()).numpy()
    assert vectors.shape == (len(table), 5)
    assert (found.of(table["example_id"].tolist()[::-1]).numpy() == vectors[::-1]).all(), "found by id, not by place"
    by_moment: dict[tuple[int, ...], np.ndarray] = {}
    for user, history, vector in zip(table["user"], table["history"], vectors, strict=True):
        same = by_moment.setdefault((user, *history), vector)
        np.testing.assert_allclose(same, vector, atol=1e-6)
    mine = vectors[(table["user"] == table["user"].iloc[0]).to_numpy()]
    assert len(np.unique(mine.round(5), axis=0)) > 1, "the user side moves with the history"


def test_an_unknown_example_is_named_and_models_without_history_have_no_file(world, tmp_path):
    build_cf(SASRecConfig("sasrec", history_items=5, **{**SHORT, "epochs": 1}), *world, seed=0, out=tmp_path)
    found = ExampleUsers.load(tmp_path)
    assert found is not None
    with pytest.raises(ArtifactError, match="no user vector for example ctr/test/9-9999"):
        found.of(["ctr/test/9-9999"])
    (tmp_path / "mf").mkdir()
    build_cf(MFConfig("mf", **{**SHORT, "epochs": 1}), *world, seed=0, out=tmp_path / "mf")
    assert ExampleUsers.load(tmp_path / "mf") is None


def test_the_collator_gives_a_prompt_the_user_as_of_its_example(collator, mixed):
    """Two examples of one user have two vectors; without per-example vectors both would have the table's."""
    import dataclasses

    from ckf.cf.vectors.per_example_users import ExampleUsers
    from ckf.cf.vectors.tables import VectorTables
    from ckf.core.rng import hash_ids

    first = mixed[0]
    pair = [first, dataclasses.replace(first, example_id=f"{first.example_id}-later")]
    keys = hash_ids([example.example_id for example in pair])
    order = np.argsort(keys, kind="stable")
    vectors = torch.arange(2 * collator.tables.dim, dtype=torch.float32).view(2, -1)
    example_users = ExampleUsers(keys[order], vectors[torch.from_numpy(order)])
    tables = VectorTables(collator.tables.users, collator.tables.items, example_users)
    batch, _ = collator.with_tables(tables).scoring(pair, slots=True)
    assert batch.slots.users.tolist() == vectors.tolist()
    batch, _ = collator.with_tables(tables.shuffled(0)).scoring(pair, slots=True)
    assert torch.equal(batch.slots.users[0], batch.slots.users[1])
