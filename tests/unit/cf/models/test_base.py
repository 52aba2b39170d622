"""Every model alike: repeatable, sure of cold ids, honest on one user; and what the exported vectors hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ckf.cf.data import CFBatch, CFData, Interactions
from ckf.cf.fit import fit_model, predict_examples
from ckf.cf.models.bias import BiasModel
from ckf.cf.models.embedding_model import EmbeddingModel
from ckf.config.schema import (
    BiasConfig,
    CFConfig,
    DINConfig,
    FeaturesConfig,
    ItemKNNConfig,
    LightGCNConfig,
    MFConfig,
    PopularityConfig,
    SASRecConfig,
)
from ckf.core.errors import DataError
from ckf.data.readers.synthetic import make_synthetic
from ckf.metrics import auc
from tests.worlds import SMALL, write_world

SHORT = {"dim": 4, "epochs": 3, "batch_size": 256, "folds": 3}
EMBEDDING = [
    MFConfig("mf", **SHORT),
    MFConfig("mf", loss="bpr", **SHORT),
    MFConfig("mf", loss="mse", **SHORT),
    LightGCNConfig("lightgcn", **SHORT),
    LightGCNConfig("lightgcn", loss="bpr", **SHORT),
    SASRecConfig("sasrec", history_items=5, loss="bpr", **SHORT),
    SASRecConfig("sasrec", history_items=5, blocks=2, item_init="likes", **SHORT),
    DINConfig("din", history_items=5, **SHORT),
]
COUNTING = [
    BiasConfig("bias"),
    PopularityConfig("popularity"),
    ItemKNNConfig("itemknn", history_items=5, folds=3),
    FeaturesConfig("features", model="logistic", history_items=5, folds=3),
    FeaturesConfig("features", model="trees", history_items=5, folds=3, iterations=20),
]
EVERY = [*COUNTING, *EMBEDDING]


def label(cfg: CFConfig) -> str:
    return "-".join([cfg.name, *[str(getattr(cfg, key)) for key in ("loss", "model") if hasattr(cfg, key)]])


every = pytest.mark.parametrize("cfg", EVERY, ids=label)
embedding = pytest.mark.parametrize("cfg", EMBEDDING, ids=label)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    cfg = dataclasses.replace(SMALL, users=120, items=60, interactions_per_user=30, hidden_strength=2.5)
    return write_world(tmp_path_factory.mktemp("models"), make_synthetic(cfg))


@pytest.fixture(scope="module")
def data(world: tuple[Path, Path]) -> CFData:
    return CFData.load(world[0], 5)


def scores(model, batch: CFBatch) -> np.ndarray:
    return np.stack([model.click_probability(batch), model.rating(batch), model.rank_score(batch)])


@every
def test_repeatable_bit_by_bit(cfg, data):
    first, again = (scores(fit_model(cfg, data, 0), data.val.batch) for _ in range(2))
    assert (first == again).all()
    assert np.isfinite(first).all()
    assert ((first[0] > 0) & (first[0] < 1)).all()
    assert ((first[1] >= 1) & (first[1] <= 5)).all()


@embedding
def test_the_global_state_of_torch_neither_matters_nor_moves(cfg, data):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = fit_model(cfg, data, 0).rank_score(data.val.batch)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert (fit_model(cfg, data, 0).rank_score(data.val.batch) == one).all()
    assert (fit_model(cfg, data, 1).rank_score(data.val.batch) != one).any(), "the seed matters"


@every
def test_ids_beyond_the_tables_are_unknown_ids(cfg, data):
    model = fit_model(cfg, data, 0)
    some = data.val.batch.rows(slice(0, 20))
    far, zero = np.full(20, 10**6), np.zeros(20, dtype=np.int64)
    beyond = scores(model, CFBatch(far, some.item, np.full_like(some.history, 10**6)))
    unknown = scores(model, CFBatch(zero, some.item, np.zeros_like(some.history)))
    assert np.isfinite(beyond).all()
    assert (beyond == unknown)[[0, 1]].all()
    assert np.isfinite(scores(model, CFBatch(some.user, far, some.history))).all()


@every
def test_a_dataset_of_one_user(cfg):
    draw = np.random.default_rng(0)
    part = Interactions(
        user=np.ones(40, dtype=np.int64),
        item=np.arange(1, 41),
        click=np.tile([0.0, 1.0], 20),
        rating=np.tile([2.0, 4.0], 20),
        timestamp=np.arange(40) * 90_000,
        history=draw.integers(0, 40, (40, 5)).astype(np.int32),
    )
    assert np.isfinite(scores(fit_model(cfg, CFData(part, part, 1, 40), 0), part.batch)).all()


@embedding
def test_a_val_split_of_one_class_is_refused(cfg, data):
    liked = data.val.rows(np.flatnonzero(data.val.click > 0))
    with pytest.raises(DataError, match=f"{cfg.name}: the epoch is chosen by val AUC, but all {len(liked.user)} val"):
        fit_model(cfg, dataclasses.replace(data, val=liked), 0)


@every
def test_predictions_of_every_example(cfg, world, data):
    found = predict_examples(fit_model(cfg, data, 0), world[1] / ".")
    examples = pd.read_parquet(world[1] / "examples.parquet")
    assert set(found["example_id"]) == set(examples["example_id"])
    assert found["score"].notna().all()


@embedding
def test_vectors_and_card(cfg, data):
    model = fit_model(cfg, data, 0)
    users, items = model.vectors()
    assert users.shape == (data.n_users + 1, cfg.dim + 1)
    assert items.shape == (data.n_items + 1, cfg.dim + 1)
    assert (users[0, :-1] == 0).all() or cfg.reads_history
    assert (items[0] == 0).all()
    assert model.metadata["checkpoint_rule"] == "highest ctr AUC on val"
    assert model.metadata["val_auc"] == pytest.approx(auc(data.val.click, model.logit(data.val.batch)), abs=1e-6)
    assert [line["epoch"] for line in model.fitted.history] == list(range(1, model.metadata["epochs_run"] + 1))


@pytest.mark.parametrize("cfg", [c for c in EMBEDDING if c.name != "din"], ids=label)
def test_the_exported_vectors_hold_the_whole_score(cfg, data):
    """DIN is no dot product; of the others a fusion gets all that the model knows."""
    model = fit_model(cfg, data, 0)
    batch = data.val.batch
    u, v = model.user_vectors(batch), model.vectors()[1][batch.item]
    rebuilt = model.additive.mean + (u[:, :-1] * v[:, :-1]).sum(1) + u[:, -1] + v[:, -1]
    np.testing.assert_allclose(rebuilt, model.logit(batch), atol=1e-4)
    if not cfg.reads_history:
        assert (model.vectors()[0][batch.user] == u).all()


@pytest.mark.parametrize("cfg", [EMBEDDING[-2], EMBEDDING[-1]], ids=label)
def test_user_vectors_follow_the_history(cfg, data):
    model = fit_model(dataclasses.replace(cfg, epochs=5), data, 0)
    users = np.full(2, int(data.val.user[0]))
    history = np.asarray([[0, 0, 1, 2, 3], [0, 0, 7, 8, 9]], dtype=np.int32)
    one, other = model.user_vectors(CFBatch(users, np.ones(2, dtype=np.int64), history))
    assert (one != other).any()
    assert one[-1] == other[-1], "the level is the user's"


def test_embeddings_learn_what_counting_cannot(data):
    floor = auc(data.val.click, BiasModel(data, 5.0).click_probability(data.val.batch))
    for cfg in (
        MFConfig("mf", dim=8, epochs=60, embedding_l2=0.02),
        LightGCNConfig("lightgcn", dim=8, epochs=60, embedding_l2=0.02),
    ):
        model = fit_model(cfg, data, 0)
        assert isinstance(model, EmbeddingModel)
        assert model.metadata["val_auc"] > floor + 0.02, cfg.name
