"""The embeddings artifact: what is in it, what a cold id gets, and what is refused when it is written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ckf.cf.data import CFData
from ckf.cf.fit import build_cf, fit_model
from ckf.cf.vectors.artifact import write_tables
from ckf.cf.vectors.cold_start import impute_cold
from ckf.cf.vectors.tables import Histories, VectorTables
from ckf.config.schema import MFConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import ArtifactError
from tests.worlds import small_source, write_world

MF = MFConfig(name="mf", dim=4, epochs=3, batch_size=256, title_features=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_world(tmp_path_factory.mktemp("world"), small_source(), tasks=["ctr"])


@pytest.fixture(scope="module")
def data(world) -> CFData:
    return CFData.load(world[0])


def test_manifest_tells_coverage_norms_rows_and_epochs(world, data, tmp_path):
    build_cf(MF, *world, seed=0, out=tmp_path)
    card = read_json(tmp_path / "manifest.json")
    tables = VectorTables.load(tmp_path)
    for kind, table, ids in (("users", tables.users, data.train.user), ("items", tables.items, data.train.item)):
        norms = np.linalg.norm(table.numpy()[1:], axis=1)
        assert card[kind]["in_train"] == len(np.unique(ids))
        assert card[kind]["trained"] + card[kind]["empty"] == card[kind]["rows"] == len(table) - 1
        assert card[kind]["norms"]["max"] == pytest.approx(norms.max(), abs=1e-3)
    assert card["trained_on"]["rows"] == len(data.train.user)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, card["epochs_run"] + 1))
    assert card["val_auc"] == max([card["val_auc"], *(line["val_auc"] for line in lines)])


def test_histories_are_the_likes_of_train_in_order_of_time(world, data, tmp_path):
    build_cf(MF, *world, seed=0, out=tmp_path)
    found = Histories.load(tmp_path)
    rows = pd.read_parquet(world[0] / "interactions.parquet").query("split == 'train' and click == 1")
    for user, mine in rows.groupby("user"):
        assert found.of(int(user)).tolist() == mine.sort_values("timestamp", kind="stable")["item"].tolist()
    assert len(found.of(0)) == len(found.of(data.n_users + 5)) == 0


def test_cold_rules(data):
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    table[[0, 3]] = 0
    seen = np.asarray([False, True, True, False])
    assert impute_cold(table, seen, "zero") is table
    np.testing.assert_allclose(impute_cold(table, seen, "mean")[3], table[1:3].mean(axis=0))
    for rule in ("mean", "content"):
        filled = impute_cold(table, seen, rule, ["", "one", "two", "three"])
        assert not filled[0].any(), "padding stays empty"
        np.testing.assert_array_equal(filled[1:3], table[1:3])
    np.testing.assert_allclose(filled[3], table[1:3].mean(axis=0), atol=1e-5)  # a title of unknown words
    filled_by_model = table.copy()
    filled_by_model[3] = 9.0
    np.testing.assert_array_equal(impute_cold(filled_by_model, seen, "content", ["", "a", "b", "c"])[3], [9, 9, 9])


def test_content_vectors_come_from_the_words_of_the_title():
    draw = np.random.default_rng(0)
    words = {f"word{i}": draw.normal(size=4) for i in range(12)}
    titles, table = [""], [np.zeros(4)]
    for _ in range(300):
        two = draw.choice(list(words), 2, replace=False)
        titles.append(" ".join(two))
        table.append(sum(words[w] for w in two) + 0.1 * draw.normal(size=4))
    truth = np.asarray(table, dtype=np.float32)
    seen = np.arange(301) <= 250
    seen[0] = False
    cold = np.flatnonzero(~seen)[1:]
    given = truth * seen[:, None]
    errors = {
        r: np.square(impute_cold(given, seen, r, titles, 1.0)[cold] - truth[cold]).mean() for r in ("mean", "content")
    }
    assert errors["content"] < 0.1 * errors["mean"], errors


def test_the_cold_rule_of_the_config_reaches_the_table(world, data, tmp_path):
    tables = {}
    for rule in ("zero", "mean"):
        out = tmp_path / rule
        out.mkdir()
        build_cf(dataclasses.replace(MF, cold=rule), *world, seed=0, out=out)
        tables[rule] = VectorTables.load(out).users.numpy()
    cold = np.setdiff1d(np.arange(1, data.n_users + 1), data.train.user)
    assert len(cold)
    assert not tables["zero"][cold].any()
    np.testing.assert_allclose(
        tables["mean"][cold[0]], tables["zero"][np.unique(data.train.user)].mean(axis=0), atol=1e-5
    )


def test_nan_wrong_height_and_unequal_widths_are_refused(data, tmp_path):
    users, items = (np.ones((n + 1, 3), dtype=np.float32) for n in (data.n_users, data.n_items))
    bad = users.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ArtifactError, match=r"users.*row 2 holds NaN or infinity \(1 such rows"):
        write_tables(tmp_path, (bad, items), data, "zero", 1.0)
    with pytest.raises(ArtifactError, match="vectors for ids 0 to"):
        write_tables(tmp_path, (users[:-1], items), data, "zero", 1.0)
    with pytest.raises(ArtifactError, match="3 and 2 wide"):
        write_tables(tmp_path, (users, items[:, :2]), data, "zero", 1.0)


def test_a_learned_null_predicts_best_when_the_user_is_hidden(data):
    """Against the zero vector and the mean of users, on the rows it is learned from; its gradient is zero there."""
    model = fit_model(MFConfig(name="mf", dim=4, epochs=20, batch_size=256, title_features=False), data, 0)
    users, items = model.vectors()
    null, null_item = model.nulls(items, 0.1)
    partners, click = items[data.train.item].astype(np.float64), data.train.click

    def loss(vector: np.ndarray) -> float:
        score = model.additive.mean + partners[:, :-1] @ vector[:-1] + vector[-1] + partners[:, -1]
        return float(np.logaddexp(0, -(2 * click - 1) * score).sum() + 0.05 * vector @ vector)

    best = loss(null.astype(np.float64))
    seen = users[np.unique(data.train.user)]
    assert best < min(loss(np.zeros_like(null)), loss(seen.mean(axis=0)))
    for place in range(len(null)):
        for step in (-1e-2, 1e-2):
            assert loss(null + step * np.eye(len(null))[place]) > best - 1e-4
    assert np.isfinite(null_item).all()
    assert (null_item != 0).any()


def test_cold_learned_reaches_the_tables_and_only_cold_rows(world, data, tmp_path):
    for rule in ("zero", "learned"):
        (tmp_path / rule).mkdir()
        build_cf(dataclasses.replace(MF, cold=rule), *world, seed=0, out=tmp_path / rule)
    zero, learned = (VectorTables.load(tmp_path / rule) for rule in ("zero", "learned"))
    for kind, ids in (("users", data.train.user), ("items", data.train.item)):
        before, after = getattr(zero, kind).numpy(), getattr(learned, kind).numpy()
        empty = ~before[1:].any(axis=1)
        assert (before[1:][~empty] == after[1:][~empty]).all(), "what was trained stays"
        assert not after[0].any(), "padding stays empty"
        assert len(np.unique(after[1:][empty], axis=0)) <= 1, "one vector for all"
        assert after[1:][empty].any() or not empty.any()
        assert read_json(tmp_path / "learned" / "manifest.json")[kind]["cold"] == "learned"
        assert set(np.flatnonzero(empty) + 1).isdisjoint(ids)
