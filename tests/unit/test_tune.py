"""The search for CF settings: hands over no test row, chooses by val figures, logs every trial."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from ckf import tune
from ckf.errors import CkfError, ConfigError
from tests.worlds import small_source, write_world

FIXED = ["cf=mf", "dataset=synthetic", "cf.epochs=3", "cf.content=false"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("world")
    return write_world(folder, small_source(), tasks=["ctr"])


def test_the_copies_hold_no_test_row_and_no_planted_truth(world, tmp_path):
    assert (world[0] / "known.parquet").is_file()
    dataset, examples = tune.without_test(*world, tmp_path)
    for path in (dataset / "interactions.parquet", examples / "examples.parquet"):
        original = pd.read_parquet((world[0] if path.parent == dataset else world[1]) / path.name)
        kept = pd.read_parquet(path)
        assert set(kept["split"]) == {"train", "val"}
        assert len(kept) == (original["split"] != "test").sum() < len(original)
    assert sorted(path.name for path in dataset.iterdir()) == ["interactions.parquet", "items.parquet", "users.parquet"]


def test_the_best_val_figures_are_chosen_and_a_search_is_repeatable(world, tmp_path):
    pytest.importorskip("optuna", reason="the search needs the extra `tune`")
    search = tune.parse([*FIXED, "cf.dim=choice(2,8)", "cf.learning_rate=tag(log,interval(0.001,0.03))", "trials=3"])
    logs = []
    for name in ("a", "b"):
        copies = tune.without_test(*world, tmp_path / name)
        logs.append(tune.run_search(search, 0, copies, tmp_path / name))
    strip = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in logs]
    assert strip[0] == strip[1]
    rows = strip[0]
    assert [row["trial"] for row in rows] == [0, 1, 2]
    chosen = [row for row in rows if row["chosen"]]
    assert len(chosen) == 1
    assert chosen[0]["objective"] == max(row["objective"] for row in rows)
    assert chosen[0]["objective"] == pytest.approx((chosen[0]["val_auc"] + chosen[0]["val_uauc"]) / 2, abs=1e-6)
    tune.write_log(tmp_path / "log.csv", logs[0], "the command")
    first, *rest = (tmp_path / "log.csv").read_text().splitlines()
    assert first == "# the command"
    assert [line["cf.dim"] for line in csv.DictReader(rest)] == [str(row["cf.dim"]) for row in rows]


def test_a_model_has_a_space_of_its_own_or_needs_one():
    for name, lines in tune.SPACES.items():
        assert set(tune.parse([f"cf={name}"]).space.suggest) == {line.partition("=")[0] for line in lines}
    with pytest.raises(ConfigError, match="no search space of its own"):
        tune.parse(["cf=bias", "fusion=none"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("trials=0", "trials: '0' is not a whole number"),
        ("seed=1,2", "seed: only keys of cf can be searched"),
        ("cf.dim=glob(*)", "only choice"),
        ("cf.dim=choice(", "cannot be read"),
    ],
)
def test_what_cannot_be_searched_is_refused(line, problem):
    with pytest.raises(ConfigError) as caught:
        tune.parse([*FIXED, line])
    assert problem in str(caught.value)


def test_a_model_without_val_figures_is_refused(world, tmp_path):
    pytest.importorskip("optuna", reason="the search needs the extra `tune`")
    search = tune.parse(["cf=bias", "fusion=none", "cf.pseudo_counts=interval(1,9)", "trials=1"])
    with pytest.raises(CkfError, match="no val_auc"):
        tune.run_search(search, 0, tune.without_test(*world, tmp_path), tmp_path)
