"""CF models: the bias baseline by hand and on the published split, MF beyond it, nothing of the test split used."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, logit

from ckf.cf.data import CFBatch, CFData, Interactions
from ckf.cf.fit import build_cf
from ckf.cf.models.bias import BiasModel
from ckf.cf.models.mf import MFModel
from ckf.cf.vectors.tables import VectorTables
from ckf.config.schema import BiasConfig, CollmConfig, MFConfig, SplitConfig
from ckf.core.artifact_store import read_json
from ckf.data.examples import build_examples
from ckf.data.prepare import build_dataset
from ckf.metrics import auc, uauc
from tests.worlds import SHARED_ML1M, SMALL, write_world

MF = MFConfig(name="mf", dim=4, epochs=15, embedding_l2=0.05, batch_size=256)


def rows(user: list[int], item: list[int], click: list[int], rating: list[float]) -> Interactions:
    return Interactions(np.asarray(user), np.asarray(item), np.asarray(click, float), np.asarray(rating, float))


def pairs(user: list[int], item: list[int]) -> CFBatch:
    return CFBatch.of_pairs(np.asarray(user), np.asarray(item))


TRAIN = rows([1, 1, 2, 2, 2], [1, 2, 1, 2, 3], [1, 0, 1, 1, 0], [5, 2, 4, 4, 1])


def test_bias_by_hand():
    model = BiasModel(CFData(TRAIN, TRAIN, n_users=3, n_items=4), shrinkage=5.0)
    item1, user2 = (2 + 5 * 0.6) / 7, (2 + 5 * 0.6) / 8
    expected = expit(logit(item1) + logit(user2) - logit(0.6))
    assert model.click_probability(pairs([2], [1]))[0] == pytest.approx(expected)
    assert model.click_probability(pairs([3], [4]))[0] == pytest.approx(0.6), "unknown: the mean"
    assert model.rank_score(pairs([1, 1], [1, 3])).tolist() == [2.0, 0.0]
    mean = 16 / 5
    rating = mean + ((9 + 5 * mean) / 7 - mean) + ((9 + 5 * mean) / 8 - mean)
    assert model.rating(pairs([2], [1]))[0] == pytest.approx(rating)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from ckf.data.readers.synthetic import make_synthetic

    cfg = dataclasses.replace(SMALL, users=200, items=60, interactions_per_user=30, hidden_strength=2.5)
    return write_world(tmp_path_factory.mktemp("cf"), make_synthetic(cfg))


def test_mf_learns_the_interaction_that_biases_cannot(world):
    data = CFData.load(world[0])
    mf = MFModel(data, dataclasses.replace(MF, epochs=40), seed=0)
    bias = BiasModel(data, 5.0)
    val = data.val
    scores = [auc(val.click, m.click_probability(val.batch)) for m in (mf, bias)]
    assert scores[0] > scores[1] + 0.02, scores


def test_mf_is_repeatable_bit_by_bit_and_depends_on_its_seed(world):
    data = CFData.load(world[0])
    first, again, other = (MFModel(data, MF, seed).vectors() for seed in (0, 0, 1))
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert not (first[0] == other[0]).all()


def test_every_trained_factor_gets_gradient(world):
    data = CFData.load(world[0])
    model = MFModel(data, dataclasses.replace(MF, epochs=1), 0)
    model.net.requires_grad_(True)
    train = data.train
    model._columns = model._training_columns()
    model.loss(torch.arange(len(train.user))).backward()
    for table, ids in (
        (model.net.users, train.user),
        (model.net.items.ids, train.item),
        (model.net.user_bias, train.user),
        (model.net.item_bias, train.item),
    ):
        assert (table.weight.grad[np.unique(ids)].abs().sum(dim=1) > 0).all()
        assert (table.weight.grad[0] == 0).all(), "padding learns nothing"
    assert (model.stars.grad.abs() > 0).all()


def test_ids_that_train_never_met_have_the_zero_vector(world):
    """Without titles: with them an item has what they say (test_cold_ids.py)."""
    data = dataclasses.replace(CFData.load(world[0]), titles=[])
    users, items = MFModel(data, MF, 0).vectors()
    assert users.shape == (data.n_users + 1, MF.dim + 1)
    assert len(np.setdiff1d(np.arange(len(users)), data.train.user)) > 1, "the world has cold users"
    for table, seen in ((users, data.train.user), (items, data.train.item)):
        cold = np.setdiff1d(np.arange(len(table)), seen)
        assert np.abs(table[cold] - table[cold[-1]]).max() < 1e-6, "all unknown ids are alike"
        assert (table[cold, :-1] == 0).all()
        assert (np.abs(table[np.unique(seen)]).sum(axis=1) > 0).all()


def test_test_rows_change_nothing(world, tmp_path):
    """The model of a dataset whose test labels are flipped is the same: nothing of them is read."""
    rows = pd.read_parquet(world[0] / "interactions.parquet")
    test = rows["split"] == "test"
    rows.loc[test, "click"] = 1 - rows.loc[test, "click"]
    rows.loc[test, "rating"] = 6 - rows.loc[test, "rating"]
    rows.to_parquet(tmp_path / "interactions.parquet")
    for name in ("users", "items"):
        pd.read_parquet(world[0] / f"{name}.parquet").to_parquet(tmp_path / f"{name}.parquet")
    honest, flipped = (MFModel(CFData.load(folder), MF, 0).vectors() for folder in (world[0], tmp_path))
    assert (honest[1] == flipped[1]).all()


@pytest.mark.parametrize("cfg", [BiasConfig("bias"), MF], ids=["bias", "mf"])
def test_every_example_of_every_split_is_predicted(world, tmp_path, cfg):
    build_cf(cfg, *world, seed=0, out=tmp_path)
    found = pd.read_parquet(tmp_path / "predictions.parquet")
    examples = pd.read_parquet(world[1] / "examples.parquet")
    assert set(found["example_id"]) == set(examples["example_id"])
    assert found["score"].notna().all()
    topk = examples[examples["task"] == "topk"]
    assert (found["task"] == "topk").sum() == topk["candidates"].str.len().sum()
    ctr = found.loc[found["task"] == "ctr", "score"]
    assert ctr.between(0, 1, inclusive="neither").all()
    assert found.loc[found["task"] == "rating", "score"].between(1, 5).all()
    card = read_json(tmp_path / "manifest.json")
    assert card["trained_on"]["rows"] == len(CFData.load(world[0]).train.user)
    if cfg is MF:
        assert VectorTables.load(tmp_path).dim == MF.dim + 1


def test_the_bias_baseline_on_the_published_split(tmp_path):
    if not SHARED_ML1M.is_dir():
        pytest.skip(f"CoLLM's ML-1M pickles are not at {SHARED_ML1M}: the bias baseline of .732/.682 is not checked")
    dataset, examples, out = (tmp_path / name for name in ("dataset", "examples", "cf"))
    for folder in (dataset, examples, out):
        folder.mkdir()
    build_dataset(CollmConfig("collm_ml1m", root=str(SHARED_ML1M)), SplitConfig("provided"), dataset)
    build_examples(dataset, ["ctr"], history_items=10, candidates=10, review_words=100, seed=0, out=examples)
    build_cf(BiasConfig("bias"), dataset, examples, 0, out)
    table = pd.read_parquet(examples / "examples.parquet").query("split == 'test'")
    table = table.merge(pd.read_parquet(out / "predictions.parquet"), on="example_id")
    label, score = table["label"].to_numpy(), table["score"].to_numpy()
    value, n_users = uauc(label, score, table["user"].to_numpy())
    assert len(table) == 7_331
    assert n_users == 224
    assert auc(label, score) == pytest.approx(0.732, abs=5e-4)
    assert value == pytest.approx(0.682, abs=5e-4)
    assert table["warm_seen"].sum() == 4_153
    assert table["warm_3"].sum() == 3_682
