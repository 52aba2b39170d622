"""Counting out of fold: a row never meets its own label; and the content and neighbours that are counted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ckf.cf.data import CFBatch, CFData, Interactions
from ckf.cf.features.bias_terms import Additive
from ckf.cf.features.cooccurrence import CoOccurrence
from ckf.cf.features.counts import ITEM_COUNTS, Counts, fold_ids
from ckf.cf.features.titles import Content
from ckf.cf.models.feature_classifier import NAMES, FeaturesModel, out_of_fold_features
from ckf.cf.models.itemknn import top_neighbours
from ckf.cf.popularity_prior import Ranking
from ckf.config.schema import FeaturesConfig
from tests.unit.cf.models.test_lightgcn_sasrec_din_networks import DATA

CFG = FeaturesConfig("features", history_items=5, folds=4)


def flipped(row: int) -> CFData:
    click = DATA.train.click.copy()
    click[row] = 1 - click[row]
    return dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, click=click))


def content() -> Content:
    return Content(DATA.titles, DATA.n_items)


@pytest.mark.parametrize("row", [0, 13, 31])
def test_flipping_its_own_label_does_not_change_a_rows_features(row):
    before, after = (out_of_fold_features(data, content(), CFG, 0) for data in (DATA, flipped(row)))
    assert (before[row] == after[row]).all()
    assert (before != after).any(), "rows of other folds do see it"


def test_flipping_its_own_label_does_not_change_where_a_row_starts():
    """The additive logit of a row is a function of the other folds' counts, through weights that all rows share."""
    for row in (3, 20):
        tables = []
        for data in (DATA, flipped(row)):
            others = data.train.rows(np.flatnonzero(fold_ids(data.train, 4, 0) != fold_ids(data.train, 4, 0)[row]))
            tables.append(Counts.of(others, data, content(), 5.0))
        assert (tables[0].items == tables[1].items).all()
        assert (tables[0].users == tables[1].users).all()


def test_the_additive_start_is_the_sum_of_its_parts():
    additive = Additive(DATA, content(), 5.0, 4, 0)
    assert additive.user[0] == 0
    assert additive.item[0] == 0
    counts = Counts.of(DATA.train, DATA, content(), 5.0)
    pairs = counts.of_pairs(np.asarray([0, 2]), np.asarray([0, 5]))
    difference = additive.user[2] + additive.item[5]
    weights = np.linalg.lstsq(
        np.concatenate([counts.items - counts.items[0], np.zeros((DATA.n_items + 1, 3))], axis=1),
        additive.item,
        rcond=None,
    )[0]
    assert np.isfinite(difference)
    np.testing.assert_allclose(
        additive.item[5], (pairs[1] - pairs[0])[: len(ITEM_COUNTS)] @ weights[: len(ITEM_COUNTS)], atol=1e-8
    )


def test_rows_of_a_user_and_day_share_a_fold():
    day = 86_400
    rows = Interactions(
        np.asarray([1, 1, 1, 2]),
        np.asarray([1, 2, 3, 1]),
        np.ones(4),
        np.full(4, np.nan),
        np.asarray([5, 9, 5 * day, 5]),
    )
    folds = np.stack([fold_ids(rows, 10, seed) for seed in range(40)])
    assert (folds[:, 0] == folds[:, 1]).all()
    assert (folds[:, 0] != folds[:, 2]).any()
    assert (folds[:, 0] != folds[:, 3]).any()


def test_co_occurrence_as_loops_would_count_it():
    train, counts = DATA.train, Counts.of(DATA.train, DATA, content(), 5.0)
    together = CoOccurrence.of(train, DATA, counts)
    likers = {v: set(train.user[(train.item == v) & (train.click > 0)].tolist()) for v in range(DATA.n_items + 1)}
    for h, v in ((1, 2), (4, 9), (7, 3), (5, 5)):
        cosine = len(likers[h] & likers[v]) / np.sqrt((len(likers[h]) + 1) * (len(likers[v]) + 1)) if h != v else 0
        assert together.cosine[h, v] == pytest.approx(cosine)
        spoke = [k for k in range(len(train.user)) if train.item[k] == v and train.user[k] in likers[h]]
        assert together.spoke[h, v] == len(spoke)
        means = [
            counts.items[v, 0] + counts.users[train.user[k], 0] - np.log(counts.mean / (1 - counts.mean)) for k in spoke
        ]
        left = sum(train.click[k] - 1 / (1 + np.exp(-m)) for k, m in zip(spoke, means, strict=True))
        assert together.opinion[h, v] == pytest.approx(left)


def test_padding_of_a_history_adds_nothing_to_the_features():
    model = FeaturesModel(DATA, CFG, 0)
    user, item = np.asarray([2]), np.asarray([5])
    short, long = (CFBatch(user, item, np.asarray([h], dtype=np.int32)) for h in ([7, 3], [0, 0, 0, 7, 3]))
    np.testing.assert_allclose(model.describe(short), model.describe(long))
    assert model.describe(short).shape == (1, len(NAMES))
    assert np.isfinite(model.describe(CFBatch.of_pairs(user, item))).all()


def test_words_and_years_of_titles():
    made = Content(["", "The Crime Story (1994)", "Crime (1996)", "Alone", "A Story (2001)"], 4)
    assert made.vocabulary == ["crime", "story"], "words of one title alone say nothing of another"
    assert made.year.tolist() == [0, 1994, 1996, 0, 2001]
    assert made.words.toarray().tolist() == [[0, 0], [0.5, 0.5], [1, 0], [0, 0], [0, 1]]
    spans = made.year_spans()
    assert spans[0] == spans[3] == 0
    assert len({spans[1], spans[2], spans[4]}) == 3
    word, _ = made.qualities(np.asarray([2]), np.asarray([1.0]))
    assert word[2] == pytest.approx(1 / 21)
    assert word[1] == pytest.approx(0.5 / 21)


def test_neighbourhoods_keep_the_nearest_and_shrink_the_rare():
    near = top_neighbours(DATA.train, DATA, neighbours=2, shrinkage=10.0).toarray()
    whole = top_neighbours(DATA.train, DATA, neighbours=99, shrinkage=10.0).toarray()
    bare = top_neighbours(DATA.train, DATA, neighbours=99, shrinkage=0.0).toarray()
    assert ((near > 0).sum(axis=1) <= 2).all()
    for row in range(DATA.n_items + 1):
        assert set(near[row][near[row] > 0]) <= set(np.sort(whole[row])[-2:])
    assert (np.diag(whole) == 0).all()
    assert (whole[whole > 0] < bare[whole > 0]).all()
    np.testing.assert_allclose(bare, bare.T)


def test_ranking_weights_are_those_that_find_the_liked_ones():
    """Where all that is liked is popular, popularity gets weight; a logit of noise gets little."""
    click = np.ones(len(DATA.val.item))
    popular = int(np.bincount(DATA.train.item, weights=DATA.train.click).argmax())
    val = dataclasses.replace(DATA.val, item=np.full(len(click), popular), click=click)
    ranking = Ranking.fit(dataclasses.replace(DATA, val=val), lambda batch: np.zeros(len(batch)), 0)
    assert ranking.popularity > 0.3
    assert ranking.liking == 0
