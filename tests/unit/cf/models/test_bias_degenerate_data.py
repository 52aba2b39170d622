"""Data at the edge: means of 0 and 1, one class, no ratings."""

from __future__ import annotations

import numpy as np
import pytest

from ckf.cf.data import CFBatch, CFData, Interactions
from ckf.cf.models.bias import BiasModel
from ckf.cf.models.mf import MFModel
from ckf.config.schema import MFConfig
from ckf.core.errors import DataError

MF = MFConfig(name="mf", dim=2, epochs=3, batch_size=2)


def rows(user: list[int], item: list[int], click: list[int], rating: list[float] | None = None) -> Interactions:
    stars = np.full(len(user), np.nan) if rating is None else np.asarray(rating, float)
    return Interactions(np.asarray(user), np.asarray(item), np.asarray(click, float), stars)


# item 3 is always skipped, user 9 always clicks: their plain means are 0 and 1
TRAIN = rows([1, 1, 9, 9], [3, 1, 1, 2], [0, 1, 1, 1])
PAIRS = CFBatch.of_pairs(np.asarray([1, 1, 9, 9]), np.asarray([3, 1, 3, 2]))


def test_without_shrinkage_every_prediction_is_finite():
    model = BiasModel(CFData(TRAIN, TRAIN, n_users=9, n_items=3), shrinkage=0.0)
    values = model.click_probability(PAIRS)
    assert np.isfinite(values).all()
    assert values[0] < values[1] < values[3]


def test_a_train_split_of_one_class_gives_finite_predictions():
    train = rows([1, 2], [1, 2], [1, 1])
    data = CFData(train, TRAIN, n_users=9, n_items=3)
    for model in (BiasModel(data, 5.0), MFModel(data, MF, 0)):
        assert np.isfinite(model.click_probability(PAIRS)).all()


@pytest.mark.parametrize("n", [0, 2])
def test_mf_refuses_a_val_split_that_cannot_choose_an_epoch(n):
    val = rows([1, 2][:n], [1, 2][:n], [1, 1][:n])
    with pytest.raises(DataError, match=f"all {n} val rows are likes" if n else "val holds no row"):
        MFModel(CFData(TRAIN, val, n_users=9, n_items=3), MF, 0)


def test_mf_without_ratings_learns_clicks_and_says_no_stars():
    model = MFModel(CFData(TRAIN, TRAIN, n_users=9, n_items=3), MF, 0)
    assert np.isnan(model.rating(PAIRS)).all()
    assert np.isfinite(model.click_probability(PAIRS)).all()
    assert float(model.stars[1]) == 1.0, "nothing moves the map to stars"
    rated = rows([1, 1, 9, 9], [3, 1, 1, 2], [0, 1, 1, 1], [2, 5, 4, 4])
    stars = MFModel(CFData(rated, rated, n_users=9, n_items=3), MF, 0).rating(PAIRS)
    assert ((stars >= 2) & (stars <= 5)).all()
