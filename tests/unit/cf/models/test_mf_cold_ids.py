"""What MF says of ids that train never met: nothing of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ckf.cf.data import CFBatch, CFData
from ckf.cf.models.bias import BiasModel
from ckf.cf.models.mf import MFModel
from ckf.config.schema import MFConfig
from ckf.data.readers.synthetic import make_synthetic
from ckf.metrics import auc
from tests.worlds import SMALL, write_world

MF = MFConfig(name="mf", dim=4, epochs=15, embedding_l2=0.05, batch_size=256)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = make_synthetic(dataclasses.replace(SMALL, users=200, items=60, interactions_per_user=30))
    return write_world(tmp_path_factory.mktemp("cold"), source, tasks=["ctr"])[0]


@pytest.fixture(scope="module")
def data(dataset: Path) -> CFData:
    return CFData.load(dataset)


@pytest.fixture(scope="module")
def known(dataset: Path) -> dict[tuple[int, int], float]:
    table = pd.read_parquet(dataset / "known.parquet")[["user", "item", "truth"]]
    return {(u, v): s for u, v, s in table.itertuples(index=False)}


@pytest.fixture(scope="module")
def model(data: CFData) -> MFModel:
    return MFModel(data, MF, seed=0)


def test_the_model_scores_cold_users_as_the_exported_zero_vector_would(data, model):
    items = model.vectors()[1]
    cold = np.setdiff1d(np.arange(1, data.n_users + 1), data.train.user)
    assert len(cold) > 3
    met = np.unique(data.train.item)
    unknown = [*cold[:2], 0, data.n_users + 7]
    one, *others = (model.logit(CFBatch.of_pairs(np.full(len(met), user), met)) for user in unknown)
    assert all((one == other).all() for other in others), "unknown users, also beyond the table, get one opinion"
    exported = items[met, -1] + model.additive.mean
    np.testing.assert_allclose(one, exported, atol=1e-6)


def test_the_exported_vectors_hold_the_whole_model(data, model):
    users, items = model.vectors()
    u, v = data.val.user, data.val.item
    rebuilt = model.additive.mean + (users[u, :-1] * items[v, :-1]).sum(1) + users[u, -1] + items[v, -1]
    np.testing.assert_allclose(model.logit(CFBatch.of_pairs(u, v)), rebuilt, atol=1e-5)


def test_mf_lies_between_counting_and_the_planted_truth(data, known, model):
    val = data.val
    warm = np.isin(val.user, data.train.user) & np.isin(val.item, data.train.item)
    u, v, click = val.user[warm], val.item[warm], val.click[warm]
    truth = [known[pair] for pair in zip(u.tolist(), v.tolist(), strict=True)]
    floor = BiasModel(data, 5.0).click_probability(CFBatch.of_pairs(u, v))
    assert (
        auc(click, floor) + 0.02
        < auc(click, model.click_probability(CFBatch.of_pairs(u, v)))
        < auc(click, np.asarray(truth)) - 0.02
    )


def test_threads_do_not_change_the_model(data):
    short = dataclasses.replace(MF, epochs=3)
    before = torch.get_num_threads()
    try:
        tables = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            tables.append(MFModel(data, short, seed=0).vectors())
    finally:
        torch.set_num_threads(before)
    assert (tables[0][0] == tables[1][0]).all()
    assert (tables[0][1] == tables[1][1]).all()
