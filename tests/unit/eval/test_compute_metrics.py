"""From predictions of several sources to metrics.json: counts joined, differences paired, from the file alone."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest

from ckf import metrics
from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig
from ckf.core.artifact_store import write_json
from ckf.eval.compute_metrics import align_predictions, metrics_of, with_counts


@functools.cache
def experiment() -> ExperimentConfig:
    return compose(["tasks.candidates=4", "evaluate.bootstrap_samples=200"])[0]


def predictions(seed: int = 0, users: int = 30) -> pd.DataFrame:
    """Three tasks by two sources: the model's scores carry the label, those of the bias baseline do not."""
    draw = np.random.default_rng(seed)
    rows = []
    for n in range(150):
        user, item = int(draw.integers(1, users + 1)), int(draw.integers(1, 31))
        rows.append(("ctr", f"ctr/test/{n}", user, item, float(draw.random() < 0.5), -1))
        rows.append(("rating", f"rating/test/{n}", user, item, float(draw.integers(1, 6)), -1))
        target, items = int(draw.integers(0, 4)), draw.choice(30, 4, replace=False) + 1
        rows += [("topk", f"topk/test/{n}", user, int(item), float(p == target), p) for p, item in enumerate(items)]
    table = pd.DataFrame(rows, columns=["task", "example_id", "user", "item", "label", "position"])
    table = table.assign(answer="3", warm_seen=True, warm_3=table["user"] > 5)
    noise = draw.random(len(table))
    good = np.where(table["task"] == "rating", table["label"] + noise - 0.5, 0.4 * table["label"] + 0.6 * noise)
    even = np.where(table["task"] == "rating", 3.0, noise[::-1])
    return pd.concat([table.assign(source="model", score=good), table.assign(source="bias", score=even)])


@pytest.fixture
def dataset(tmp_path):
    for kind, count in (("user", 31), ("item", 30)):
        ids = np.arange(1, count)
        table = pd.DataFrame({kind: ids, "raw_id": ids.astype(str), "n_train": (ids * 11) % count})
        table.sample(frac=1, random_state=0).to_parquet(tmp_path / f"{kind}s.parquet")
    return tmp_path


def test_counts_and_quartiles_are_those_of_the_dataset(dataset):
    """Item 30 is not in the dataset: never seen. The quartile is among all users, scored or not."""
    rows = with_counts(predictions().reset_index(drop=True), dataset)
    for kind, count in (("user", 31), ("item", 30)):
        known = rows[rows[kind] < count]
        assert (known[f"{kind}_n_train"] == (known[kind] * 11) % count).all()
        fewer = [((np.arange(1, count) * 11) % count < n).mean() for n in known[f"{kind}_n_train"]]
        assert (known[f"{kind}_quartile"] == 1 + (4 * np.asarray(fewer)).astype(int)).all()
    unknown = rows[rows["item"] == 30]
    assert len(unknown)
    assert (unknown["item_n_train"] == 0).all()
    assert (unknown["item_quartile"] == 1).all()
    assert (rows["catalogue"] == 29).all()


def test_metrics_come_from_the_file_alone_in_any_order(dataset, tmp_path):
    rows = with_counts(predictions().reset_index(drop=True), dataset)
    found = metrics_of(rows, "test", experiment())
    rows.sample(frac=1, random_state=3).to_parquet(tmp_path / "test.parquet", index=False)
    again = metrics_of(pd.read_parquet(tmp_path / "test.parquet"), "test", experiment())
    assert set(found) == set(again)
    for key, value in found.items():
        assert again[key] == pytest.approx(value, abs=1e-12), key
    for key in ("test/ctr/auc@users_q4", "bias/test/rating/rmse@items_q2", "test/topk/coverage@1[c4]",
                "test/topk/hr@1[c4]@position_3", "test/topk/popularity_bias@1[c4]", "test/ctr/map_user"):  # fmt: skip
        assert key in found, key
    assert sum(found[f"test/ctr/n@users_q{q}"] for q in range(1, 5)) == found["test/ctr/n"] == 150


@pytest.mark.parametrize(("task", "name"), [("ctr", "auc"), ("rating", "rmse"), ("topk", "hr@1[c4]")])
def test_headline_intervals_and_differences(dataset, task, name):
    rows = predictions()
    found = metrics_of(rows, "test", experiment())
    key = f"test/{task}/{name}"
    for prefix in ("", "bias/"):
        value, low, high = (found[f"{prefix}{key}{end}"] for end in ("", "_low", "_high"))
        assert low < value < high
    difference = found[f"{key}_minus_bias"]
    assert difference == pytest.approx(found[key] - found[f"bias/{key}"])
    assert found[f"{key}_minus_bias_low"] < difference < found[f"{key}_minus_bias_high"]
    tested = [f"test/{t}/{n}_minus_bias_p" for t, n in (("ctr", "auc"), ("rating", "rmse"), ("topk", "hr@1[c4]"))]
    corrected = metrics.holm([found[test] for test in tested])
    assert found[f"{key}_minus_bias_p_holm"] == pytest.approx(corrected[tested.index(f"{key}_minus_bias_p")])
    assert not any(test.endswith("_minus_cf") for test in found)


def test_few_users_have_figures_and_a_count_but_no_interval_and_no_test(tmp_path):
    """One task of many users is still tested, and corrected for the tests that there are."""
    many, few = predictions(), predictions(users=3)
    rows = pd.concat([many[many["task"] == "rating"], few[few["task"] != "rating"]])
    found = metrics_of(rows, "test", experiment())
    assert {task: found[f"test/{task}/{name}_units"] for task, name in (("ctr", "auc"), ("topk", "hr@1[c4]"))} == {
        "ctr": 3, "topk": 3,
    }  # fmt: skip
    assert found["test/rating/rmse_units"] == found["test/rating/rmse_minus_bias_units"] >= metrics.LEAST_USERS
    assert found["test/ctr/auc_minus_bias_units"] == 3
    assert "test/ctr/auc_minus_bias" in found
    ends = [key for key in found if key.endswith(("_low", "_high", "_p", "_p_holm"))]
    assert {key.split("/")[-2] for key in ends} == {"rating"}
    assert found["test/rating/rmse_minus_bias_p_holm"] == found["test/rating/rmse_minus_bias_p"]
    write_json(tmp_path / "metrics.json", found)
    assert "null" not in (tmp_path / "metrics.json").read_text(), "what does not exist is left out"


def test_one_class_has_no_difference_and_says_that_nobody_is_behind_it():
    rows = predictions().query("task == 'ctr'").assign(label=1.0)
    found = metrics_of(rows, "test", experiment())
    assert {key for key in found if key.startswith("test/ctr/auc")} == {
        "test/ctr/auc_units", "test/ctr/auc_minus_bias_units",
    }  # fmt: skip
    assert found["test/ctr/auc_units"] == 0
    assert all(value == value for value in found.values())


def test_an_answer_that_the_other_did_not_give_is_its_worst():
    rows = predictions().query("task == 'ctr'")
    model, bias = (rows[rows["source"] == source] for source in ("model", "bias"))
    aligned = align_predictions(model, bias.iloc[10:].sample(frac=1, random_state=0))
    assert list(aligned["example_id"]) == list(model["example_id"])
    assert aligned["score"].isna().sum() == 10
    assert aligned["score"].iloc[10:].tolist() == bias["score"].iloc[10:].tolist()
    whole = metrics_of(rows, "test", experiment())
    partly = metrics_of(pd.concat([model, bias.iloc[10:]]), "test", experiment())
    assert partly["test/ctr/auc_minus_bias"] > whole["test/ctr/auc_minus_bias"]
