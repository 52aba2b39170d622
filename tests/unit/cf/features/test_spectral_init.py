"""Item vectors that begin at who likes what together."""

from __future__ import annotations

import numpy as np
import pytest

from ckf.cf.data import CFData, Interactions
from ckf.cf.features.spectral_init import like_vectors
from ckf.cf.fit import fit_model
from ckf.config.schema import SASRecConfig

USERS, ITEMS = 40, 12


def interactions(seed: int) -> Interactions:
    """Even users like items 1 to 5, odd ones 6 to 10, each all of them but one; nobody likes 11 and 12."""
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(1, USERS + 1), ITEMS)
    item = np.tile(np.arange(1, ITEMS + 1), USERS)
    mine = np.where(user % 2 == 0, item <= 5, (item > 5) & (item <= 10))
    click = (mine & (item % 5 != user % 5)).astype(float)
    when = draw.permutation(len(user))
    history = np.where(user % 2 == 0, 1, 6)[:, None].astype(np.int32)
    return Interactions(user, item, click, np.full(len(user), np.nan), when, history)


@pytest.fixture(scope="module")
def data() -> CFData:
    return CFData(interactions(0), interactions(1), USERS, ITEMS)


def test_items_liked_together_are_near_and_others_are_not(data):
    vectors = like_vectors(data, 4, np.random.default_rng(0))
    dots = vectors @ vectors.T
    norms = np.sqrt(np.diag(dots)[1:11])
    cosine = dots[1:11, 1:11] / norms[:, None] / norms
    assert cosine[:5, :5].min() > 0.9
    assert cosine[5:, 5:].min() > 0.9
    assert np.abs(cosine[:5, 5:]).max() < 0.1
    assert (vectors[[0, 11, 12]] == 0).all(), "padding, and what nobody likes"
    assert np.square(norms).mean() == pytest.approx(1.0)
    assert (vectors == like_vectors(data, 4, np.random.default_rng(0))).all()


@pytest.mark.parametrize("dim", [4, 64])
def test_sasrec_begins_there_if_told_so(data, dim):
    """Also where there are fewer items than numbers."""
    still = {"dim": dim, "epochs": 1, "learning_rate": 1e-12, "folds": 3, "history_items": 1, "title_features": False}
    told, random = (
        fit_model(SASRecConfig("sasrec", item_init=start, **still), data, 0).net.items.ids.weight.numpy()
        for start in ("likes", "random")
    )
    near = told[1:6] @ told[1:6].T
    assert (near > 0.3).all()
    assert np.square(told[1:11]).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-4)
    assert np.square(random[1:11]).sum(axis=1).mean() < 0.05
    assert told[11:].any(axis=1).all(), "without likes: small random numbers, as any item"
    assert (told[0] == 0).all()


def test_nobody_likes_anything(data):
    train = data.train
    nothing = Interactions(train.user, train.item, 0 * train.click, train.rating, train.timestamp, train.history)
    vectors = like_vectors(CFData(nothing, data.val, USERS, ITEMS), 4, np.random.default_rng(0))
    assert (vectors == 0).all()
