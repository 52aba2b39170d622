"""The search for CF settings: hands over no test row, chooses by val figures, logs every trial."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from ckf.config.compose import compose
from ckf.core.errors import CkfError, ConfigError
from ckf.sweep import tune_cf as tune
from tests.worlds import small_source, write_world

FIXED = ["cf=mf_plus", "dataset=synthetic", "cf.epochs=3", "cf.title_features=false"]


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
    tables = ["interactions.parquet", "items.parquet", "manifest.json", "users.parquet"]
    assert sorted(path.name for path in dataset.iterdir()) == tables
    assert set(json.loads((dataset / "manifest.json").read_text())) == {"feedback", "like_fault", "times"}


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


def test_every_seed_counts(world, tmp_path):
    pytest.importorskip("optuna", reason="the search needs the extra `tune`")
    rows = []
    for seeds, first in ((1, 0), (1, 1), (2, 0)):
        search = tune.parse([*FIXED, "cf.dim=choice(4)", "trials=1", f"seeds={seeds}"])
        folder = tmp_path / f"{seeds}-{first}"
        rows += tune.run_search(search, first, tune.without_test(*world, folder), folder)
    alone, both = [row["val_auc"] for row in rows[:2]], rows[2]["val_auc"]
    assert alone[0] != alone[1]
    assert both == pytest.approx(sum(alone) / 2, abs=2e-6)


def test_the_best_values_become_what_the_dataset_means_by_the_model(tmp_path):
    best = {"cf.dim": "12", "cf.learning_rate": 0.0123, "cf.loss": "bpr"}
    path = tune.store_best(tmp_path, compose(FIXED)[0], best, "python -m ckf.sweep.tune_cf cf=mf_plus")
    assert "python -m ckf.sweep.tune_cf cf=mf_plus" in path.read_text(encoding="utf-8")
    cf = compose(["cf=mf_plus"], tmp_path)[0].cf
    assert (cf.dim, cf.learning_rate, cf.loss) == (12, 0.0123, "bpr")


def test_a_model_has_a_space_of_its_own_or_needs_one():
    for name, lines in tune.SPACES.items():
        assert set(tune.parse([f"cf={name}"]).space.suggest) == {line.partition("=")[0] for line in lines}
    with pytest.raises(ConfigError, match="no search space of its own"):
        tune.parse(["cf=bias", "fusion=none"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("trials=0", "trials: '0' is not a whole number"),
        ("seeds=0", "seeds: '0' is not a whole number"),
        ("store=nowhere", "store: nowhere: no such folder"),
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
    search = tune.parse(["cf=bias", "fusion=none", "cf.shrinkage=interval(1,9)", "trials=1"])
    with pytest.raises(CkfError, match="no val figure"):
        tune.run_search(search, 0, tune.without_test(*world, tmp_path), tmp_path)


def test_help_says_how_a_search_is_written(capsys):
    from ckf.sweep.tune_cf import main

    assert main(["--help"]) == 0
    assert "python -m ckf.sweep.tune_cf cf=mf_plus trials=20" in capsys.readouterr().out
