"""``cf=mf|lightgcn|sasrec|din`` are the published models; the plus forms add counts, biases, titles and more."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ckf.cf.bpr_sampling import BPRSampler
from ckf.cf.data import CFBatch, CFData
from ckf.cf.fit import fit_model
from ckf.cf.models.embedding_model import EmbeddingModel
from ckf.cf.models.lightgcn import UserItemGraph
from ckf.config.compose import compose
from ckf.config.schema import EmbeddingConfig
from ckf.data.readers.synthetic import make_synthetic
from ckf.metrics import auc
from tests.worlds import SMALL, write_world

NAMES = ("mf", "lightgcn", "sasrec", "din")
both = pytest.mark.parametrize("name", [option for name in NAMES for option in (name, f"{name}_plus")])
published = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CFData:
    cfg = dataclasses.replace(SMALL, users=120, items=60, interactions_per_user=30, hidden_strength=2.5)
    world, _ = write_world(tmp_path_factory.mktemp("published"), make_synthetic(cfg))
    return CFData.load(world, 5)


def config(name: str, **changes: object) -> EmbeddingConfig:
    """An option's own values, narrower so that a test is quick."""
    cfg = compose(["dataset=ml1m", "dataset.root=none", f"cf={name}"])[0].cf
    assert isinstance(cfg, EmbeddingConfig)
    small = {"dim": 16, "batch_size": 512, **changes}
    if cfg.reads_history:
        small["history_items"] = 5
    if name == "din":
        small |= {"hidden": 16, "second_hidden": 8, "learning_rate": 0.003}
    return dataclasses.replace(cfg, **small)


def fitted(name: str, data: CFData, **changes: object) -> EmbeddingModel:
    model = fit_model(config(name, **changes), data, 0)
    assert isinstance(model, EmbeddingModel)
    return model


@both
def test_each_form_fits_and_beats_chance(name, data):
    model = fitted(name, data)
    assert auc(data.val.click, model.click_probability(data.val.batch)) > 0.56
    assert model.metadata["epoch"] > 0, "learned, not only counted"


@published
def test_the_published_forms_have_no_counts_biases_or_titles(name, data):
    model = fitted(name, data, epochs=2)
    assert (model.cfg.bias_terms, model.cfg.title_features, model.cfg.negatives) == (False, False, "sampled")
    assert model.additive.mean == 0.0
    assert not model.additive.user.any()
    assert not model.additive.item.any()
    assert not model.net.user_bias.weight.any()
    assert not model.net.item_bias.weight.any()
    users, items = model.vectors()
    assert not users[:, -1].any(), "the bias column"
    assert not items[:, -1].any(), "the bias column"
    assert users.any() or model.history_items
    assert items[:, :-1].any()
    renamed = dataclasses.replace(data, titles=[title + " word" for title in data.titles])
    assert (model.logit(data.val.batch) == fitted(name, renamed, epochs=2).logit(data.val.batch)).all()


@published
def test_the_published_forms_rank_by_their_score_and_the_plus_forms_by_popularity_too(name, data):
    pairs = data.val.batch
    plain, plus = fitted(name, data, epochs=1), fitted(f"{name}_plus", data, epochs=6)
    assert (plain.rank_score(pairs) == plain.logit(pairs)).all()
    assert (plus.rank_score(pairs) != plus.logit(pairs)).any()
    assert plus.additive.user.any()


def test_users_with_equal_factors_have_equal_scores_in_published_mf_alone(data):
    pairs = CFBatch.of_pairs(np.repeat([1, 2], data.n_items), np.tile(np.arange(1, data.n_items + 1), 2))
    for name, equal in (("mf", True), ("mf_plus", False)):
        model = fitted(name, data, epochs=3)
        with torch.no_grad():
            model.net.users.weight[1] = model.net.users.weight[2]
        one, other = model.logit(pairs).reshape(2, -1)
        assert (one == other).all() == equal
        with torch.no_grad():
            model.net.users.weight[1] = 0.0
        assert (model.logit(pairs)[: data.n_items] == 0.0).all() == equal, "nothing but the product of factors"


def test_published_losses():
    losses = {name: config(name).loss for name in NAMES}
    assert losses == {"mf": "mse", "lightgcn": "bpr", "sasrec": "sampled_bce", "din": "bce"}


def test_published_lightgcn_trains_on_its_whole_graph(data, monkeypatch):
    seen: dict[str, set[int | None]] = {}
    graph_weights = UserItemGraph.weights

    def recorded(self, without=None):
        seen[name].add(without)
        return graph_weights(self, without)

    monkeypatch.setattr(UserItemGraph, "weights", recorded)
    for name in ("lightgcn", "lightgcn_plus"):
        seen[name] = set()
        fitted(name, data, epochs=1)
    assert seen["lightgcn"] == {None}
    assert len(seen["lightgcn_plus"]) > 1


def test_negatives_sampled_never_come_from_the_dislikes_alone(data):
    sampler = BPRSampler(data, 0, "sampled")
    drawn, _ = sampler.draw(sampler.liked, fitted("mf", data, epochs=1).additive)
    train = data.train
    rows = set(zip(train.user.tolist(), train.item.tolist(), strict=True))
    liked = set(zip(train.user[sampler.liked].tolist(), train.item[sampler.liked].tolist(), strict=True))
    pairs = set(zip(train.user[sampler.liked].tolist(), drawn.tolist(), strict=True))
    assert not pairs & liked
    assert pairs - rows, "also items that the user has not met"


def test_sampled_bce_is_the_published_loss(data):
    model = fitted("sasrec", data, epochs=1)
    model._columns = model._training_columns()
    rows = torch.from_numpy(model._pairs.liked[:8])
    drawn: dict[str, np.ndarray] = {}
    draw = model._pairs.draw

    def remembered(chosen, additive):
        drawn["items"], offsets = draw(chosen, additive)
        return drawn["items"], offsets

    model._pairs.draw = remembered
    value = float(model.loss(rows))
    part = data.train.batch.rows(rows.numpy())
    ahead = model.logit(part)
    behind = model.logit(CFBatch(part.user, drawn["items"], part.history))
    wanted = np.mean(np.logaddexp(0, -ahead) + np.logaddexp(0, behind))
    assert value == pytest.approx(wanted, rel=1e-5)


def test_published_din_is_its_network_alone_and_sums_without_a_softmax(data):
    model = fitted("din", data, epochs=1)
    net = model.net
    with torch.no_grad():
        net.output.weight.zero_()
        net.output.bias.fill_(0.25)
    assert (model.logit(data.val.batch) == np.float32(0.25)).all(), "no dot product beside the network"
    history = torch.tensor([[0, 0, 0, 0, 3], [0, 0, 0, 3, 3]])
    with torch.no_grad():
        once, twice = net.pooled(net.items(torch.tensor([[5], [5]])), history)[:, 0]
    assert torch.allclose(twice, 2 * once, atol=1e-6), "more of a kind weighs more"
    plus = fitted("din_plus", data, epochs=1).net
    with torch.no_grad():
        once, twice = plus.pooled(plus.items(torch.tensor([[5], [5]])), history)[:, 0]
    assert torch.allclose(twice, once, atol=1e-6)
