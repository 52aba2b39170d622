"""The overlap check: a CF model that met an evaluated row is refused, whatever way the row came in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ckf.cf import fit
from ckf.cf.data import CFData
from ckf.cf.fit import build_cf
from ckf.cf.leakage_check import check_no_overlap, is_unknown, raw_ids, row_keys
from ckf.config.schema import BiasConfig, MFConfig
from ckf.core.errors import ArtifactError
from tests.worlds import small_source, write_world

MF = MFConfig(name="mf", dim=4, epochs=2, batch_size=256)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_world(tmp_path_factory.mktemp("world"), small_source(), tasks=["ctr"])


def planted(monkeypatch: pytest.MonkeyPatch, n: int) -> pd.DataFrame:
    """From now on the training split of a CF model holds ``n`` rows of test."""
    honest = CFData.load.__func__
    taken: list[pd.DataFrame] = []

    def load(cls, dataset, history_items=0):
        data = honest(cls, dataset, history_items)
        rows = pd.read_parquet(dataset / "interactions.parquet").query("split == 'test'").head(n)
        taken.append(rows)
        train = data.train
        columns = {c: np.concatenate([getattr(train, c), rows[c].to_numpy()]) for c in ("user", "item", "timestamp")}
        columns |= {c: np.concatenate([getattr(train, c), rows[c].to_numpy(float)]) for c in ("click", "rating")}
        history = np.concatenate([train.history, np.zeros((n, train.history.shape[1]), dtype=np.int32)])
        return dataclasses.replace(data, train=dataclasses.replace(train, **columns, history=history))

    monkeypatch.setattr(fit.CFData, "load", classmethod(load))
    return taken


@pytest.mark.parametrize("cfg", [BiasConfig("bias"), MF], ids=["bias", "mf"])
def test_an_honest_artifact_passes(world, tmp_path, cfg):
    build_cf(cfg, *world, seed=0, out=tmp_path)
    assert not is_unknown(tmp_path)
    check_no_overlap(tmp_path, world[0], ["val", "test"])
    with pytest.raises(ArtifactError, match="trained on"):
        check_no_overlap(tmp_path, world[0], ["train"])


@pytest.mark.parametrize("n", [1, 5])
def test_planted_test_rows_are_refused_with_their_number_and_the_first(world, tmp_path, monkeypatch, n):
    taken = planted(monkeypatch, n)
    build_cf(BiasConfig("bias"), *world, seed=0, out=tmp_path)
    check_no_overlap(tmp_path, world[0], ["val"])
    with pytest.raises(ArtifactError, match=rf"trained on {n} of the \d+ rows of test") as caught:
        check_no_overlap(tmp_path, world[0], ["val", "test"][1:])
    first = taken[0].iloc[0]
    user = raw_ids(world[0], "user")[first["user"]]
    assert f"user {user}, item {raw_ids(world[0], 'item')[first['item']]} at {first['timestamp']}" in str(caught.value)
    assert str(caught.value).count(" at ") == min(n, 3)


def test_a_model_of_another_split_of_the_same_data_is_refused(world, tmp_path):
    """Keys are made of raw ids and time: another split of the same events cannot hide what was seen."""
    other = write_world(tmp_path / "other", small_source(), split="leave_last_out", tasks=["ctr"])
    out = tmp_path / "cf"
    out.mkdir()
    build_cf(BiasConfig("bias"), *other, seed=0, out=out)
    check_no_overlap(out, other[0], ["test"])
    with pytest.raises(ArtifactError, match="rows of test"):
        check_no_overlap(out, world[0], ["test"])


def test_an_artifact_that_does_not_say_is_refused(world, tmp_path):
    build_cf(BiasConfig("bias"), *world, seed=0, out=tmp_path)
    (tmp_path / "trained_on.parquet").unlink()
    with pytest.raises(ArtifactError, match="leakage cannot be excluded"):
        check_no_overlap(tmp_path, world[0], ["test"])


def test_keys_tell_user_item_and_time_apart():
    names = np.asarray(["", "a", "b"], dtype=object), np.asarray(["", "b", "a"], dtype=object)
    users, items, times = np.asarray([1, 2, 1, 1, 1]), np.asarray([1, 2, 2, 1, 1]), np.asarray([7, 7, 7, 8, -7])
    keys = row_keys(users, items, times, of=names)
    assert len(set(keys.tolist())) == 5
    again = row_keys(users[:1] + 1, items[:1] + 1, times[:1], of=(names[0][[0, 2, 1]], names[1][[0, 2, 1]]))
    assert again[0] == keys[0], "renumbered, the same event has the same key"
