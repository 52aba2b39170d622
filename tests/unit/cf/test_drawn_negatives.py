"""Implicit feedback: every CF model is fitted against drawn items, which leak nothing; the rank of likes chooses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ckf.cf.data import CFData, Interactions
from ckf.cf.drawn_negatives import CANDIDATES, POPULARITY, UNIFORM, with_drawn_negatives
from ckf.cf.features.counts import fold_ids
from ckf.cf.fit import fit_model
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

SHORT = {"dim": 4, "epochs": 3, "batch_size": 256, "folds": 3}
PUBLISHED = {**SHORT, "bias_terms": False, "title_features": False, "negatives": "sampled"}
EVERY: list[CFConfig] = [
    BiasConfig("bias"),
    PopularityConfig("popularity"),
    ItemKNNConfig("itemknn", history_items=5, folds=3),
    FeaturesConfig("features", model="logistic", history_items=5, folds=3),
    FeaturesConfig("features", model="trees", history_items=5, folds=3, iterations=10),
    MFConfig("mf", loss="mse", **PUBLISHED),
    MFConfig("mf", loss="bpr", **{**PUBLISHED, "negatives": "popularity"}),
    MFConfig("mf_plus", **SHORT),
    LightGCNConfig("lightgcn", loss="bpr", hold_out_edges=False, **PUBLISHED),
    LightGCNConfig("lightgcn_plus", **SHORT),
    SASRecConfig("sasrec", loss="sampled_bce", history_items=5, **PUBLISHED),
    SASRecConfig("sasrec_plus", history_items=5, item_init="likes", **SHORT),
    DINConfig("din", history_items=5, dot_product=False, normalize_attention=False, **PUBLISHED),
    DINConfig("din_plus", history_items=5, **SHORT),
]
ITEMS, USERS = 60, 40


def likes(pairs: list[tuple[int, int]], **more: bool) -> Interactions:
    user, item = (np.asarray(part, dtype=np.int64) for part in zip(*pairs, strict=True))
    history = np.zeros((len(pairs), 5), dtype=np.int32)
    history[:, -1] = item % ITEMS + 1
    return Interactions(
        user, item, np.ones(len(user)), np.full(len(user), np.nan), np.arange(len(user)), history, **more
    )


def liked(user: int) -> list[int]:
    """Items of one of four themes; the first five are of train, then val, then test."""
    theme = 15 * (user % 4)
    return [theme + (user * 7 + 4 * place) % 15 + 1 for place in range(7)]


@pytest.fixture
def data() -> CFData:
    """Item 60 is in no training row; item 1 is in many."""
    train = [(user, item) for user in range(1, USERS + 1) for item in {*liked(user)[:5], 1} if item != ITEMS]
    val = [(user, liked(user)[5]) for user in range(1, USERS + 1) if liked(user)[5] not in {*liked(user)[:5], 1}]
    titles = ["", *(f"thing {n}" for n in range(1, ITEMS + 1))]
    return CFData(likes(train), likes(val), USERS, ITEMS, titles, implicit=True)


def pairs(rows: Interactions, click: int) -> set[tuple[int, int]]:
    mine = rows.rows(np.flatnonzero(rows.click == click))
    return set(zip(mine.user.tolist(), mine.item.tolist(), strict=True))


@pytest.mark.parametrize("cfg", EVERY, ids=lambda cfg: f"{cfg.name}-{getattr(cfg, 'loss', getattr(cfg, 'model', ''))}")
def test_every_model_is_fitted_on_likes_alone(cfg, data):
    model = fit_model(cfg, data, 0)
    batch = data.val.batch
    clicks, ranks = model.click_probability(batch), model.rank_score(batch)
    assert np.isfinite(clicks).all()
    assert np.isfinite(ranks).all()
    assert ((clicks > 0) & (clicks < 1)).all()
    assert np.isnan(model.rating(batch)).all()
    if hasattr(model, "fitted") or getattr(cfg, "model", "") == "trees":
        assert "NDCG@10 of val likes among 50 items drawn by" in model.metadata["checkpoint_rule"]
        assert 0 <= model.metadata["val_ndcg@10"] <= 1
    again = fit_model(cfg, data, 0)
    assert (again.rank_score(batch) == ranks).all()


@pytest.mark.parametrize("name", [UNIFORM, POPULARITY])
def test_a_drawn_item_is_none_that_the_split_may_know_the_user_to_like(data, name):
    found = with_drawn_negatives(data, 0, name, 4)
    known, held_out = pairs(data.train, 1), pairs(data.val, 1)
    drawn = pairs(found.train, 0), pairs(found.val, 0)
    assert len(found.train.user) == 5 * len(data.train.user)
    assert len(found.val.user) == 2 * len(data.val.user)
    assert not drawn[0] & known
    assert not drawn[1] & (known | held_out)
    assert drawn[0] & held_out, "training does not look at held-out likes"
    assert {item for _, item in drawn[0] | drawn[1]} <= set(data.train.item.tolist()), "what train never met stays cold"
    listed = found.lists.batch
    there = (listed.item > 0) & (np.arange(len(listed.item)) % CANDIDATES > 0)
    assert not set(zip(listed.user[there].tolist(), listed.item[there].tolist(), strict=True)) & (known | held_out)


def test_popularity_draws_what_many_like(data):
    """Item 1 is in the rows of most users, so for the others it is drawn far more often than by chance."""
    without = dataclasses.replace(
        data, train=data.train.rows(np.flatnonzero((data.train.item != 1) | (data.train.user > 20)))
    )
    share = {name: (with_drawn_negatives(without, 0, name, 4).train.item == 1).mean() for name in (UNIFORM, POPULARITY)}
    assert share[POPULARITY] > 1.5 * share[UNIFORM]


def test_draws_depend_on_the_like_and_the_seed_alone(data):
    whole = pairs(with_drawn_negatives(data, 0).train, 0)
    order = np.random.default_rng(0).permutation(len(data.train.user))
    moved = dataclasses.replace(data, train=data.train.rows(order))
    assert pairs(with_drawn_negatives(moved, 0).train, 0) == whole
    assert pairs(with_drawn_negatives(data, 1).train, 0) != whole
    first = dataclasses.replace(data, val=data.val.rows(np.arange(10)))
    assert pairs(with_drawn_negatives(first, 0).val, 0) <= pairs(with_drawn_negatives(data, 0).val, 0)


def test_the_rank_of_the_likes_chooses_and_a_tie_is_lost(data):
    lists = with_drawn_negatives(data, 0).lists
    first = np.arange(len(lists.batch.item)) % CANDIDATES == 0
    assert lists.figures(first.astype(float)) == {"val_ndcg@10": 1.0}
    assert lists.figures(np.zeros(len(first)))["val_ndcg@10"] < 0.1


def test_explicit_data_of_one_class_are_refused_with_the_reason(data):
    told = dataclasses.replace(data, implicit=False, like_fault="dataset.like_threshold=1 makes all 9 ratings likes")
    for cfg in (cfg for cfg in EVERY if cfg.name not in ("bias", "popularity")):
        with pytest.raises(DataError, match=r"rows are likes: dataset.like_threshold=1 makes all 9 ratings likes"):
            fit_model(cfg, told, 0)


def test_a_fold_of_likes_alone_is_no_division_by_zero(data):
    """One dislike in all: most folds hold none."""
    click = data.train.click.copy()
    click[0] = 0
    one = dataclasses.replace(data, implicit=False, train=dataclasses.replace(data.train, click=click))
    model = fit_model(FeaturesConfig("features", model="logistic", history_items=5, folds=3), one, 0)
    assert np.isfinite(model.click_probability(data.val.batch)).all()


def test_an_order_is_no_day(data):
    """The rows of one user would all be of the first day, and no fold would know anything of the user."""
    timed, ordered = data.train, likes([(1, item) for item in range(1, 41)], timed=False)
    assert len(np.unique(fold_ids(timed.rows(np.flatnonzero(timed.user == 1)), 10, 0))) == 1
    assert len(np.unique(fold_ids(ordered, 10, 0))) > 5
