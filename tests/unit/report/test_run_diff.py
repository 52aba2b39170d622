"""`ckf diff`: two runs on the same examples, from their folders alone; other examples and protocols are refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from ckf.core.errors import ArtifactError
from ckf.metrics import auc, mrr, target_ranks
from ckf.report.run_diff import run_diff
from tests.unit.report.runs import cells, make_run

USERS = 40


def answers(shift: float, seed: int = 0) -> pd.DataFrame:
    """ctr and topk rows; ``shift`` moves the positives' scores, and user 7 and item 3 besides."""
    draw = np.random.default_rng(seed)
    rows = []
    for n in range(200):
        label, user, item = float(draw.random() < 0.5), n % USERS, 1 + n % 13
        score = np.clip(0.3 + 0.2 * draw.random() + shift * label + (shift if user == 7 else 0), 0, 1)
        rows.append(("ctr", f"ctr/test/{n}", user, item, label, score, -1))
    for n in range(60):
        target = int(draw.integers(0, 4))
        for place in range(4):
            score = draw.normal() + 3 * shift * (place == target)
            rows.append(("topk", f"topk/test/{n}", n % USERS, place + 1, float(place == target), score, place))
    columns = ["task", "example_id", "user", "item", "label", "score", "position"]
    table = pd.DataFrame(rows, columns=columns).assign(source="model", answer="x", warm_seen=True, warm_3=True)
    return pd.concat([table, table.assign(source="cf", score=0.5)], ignore_index=True)


def scored(folder, rows, *overrides, **options):
    run = make_run(folder, *overrides, **options)
    (run / "predictions").mkdir()
    rows.sample(frac=1, random_state=len(overrides)).to_parquet(run / "predictions" / "test.parquet")
    return run


@pytest.fixture
def runs(tmp_path):
    return scored(tmp_path / "a", answers(0.4)), scored(tmp_path / "b", answers(0.0), "fusion=linear", "lora.rank=4")


def test_config_metrics_and_changes(runs, tmp_path):
    text = run_diff(*runs, tmp_path / "out", samples=500)
    assert cells(text, "fusion.name")[1:] == ["meta", "linear"]
    assert cells(text, "lora.rank")[2] == "4"
    assert "| seed" not in text, "equal settings are no difference"
    found = json.loads((tmp_path / "out" / "diff.json").read_text(encoding="utf-8"))
    parts = [rows[rows["source"] == "model"] for rows in (answers(0.4), answers(0.0))]
    clicks = [auc(*(part.loc[part["task"] == "ctr", c].to_numpy() for c in ("label", "score"))) for part in parts]
    ranked = []
    for part in parts:
        lists = part[part["task"] == "topk"]
        ranked.append(mrr(target_ranks(lists["label"], lists["score"], lists["example_id"])))
    for key, (mine, other) in (("test/ctr/auc", clicks), ("test/topk/mrr[c10]", ranked)):
        row = found["metrics"][key]
        assert (row["a"], row["b"], row["difference"]) == pytest.approx((mine, other, mine - other))
        assert 0 < row["low"] < row["difference"] < row["high"]
        assert row["p"] <= row["p_holm"] < 0.05
        assert cells(text, key)[-1] == "a better"
        assert f"{mine - other:+.4f}" in cells(text, key)
    sure = found["metrics"]["test/topk/hr@10[c10]"]
    assert (sure["difference"], sure["p_holm"]) == (0, 1), "lists of four: all hits"
    tests = [
        row["p"] for key, row in found["metrics"].items() if not key.startswith(("test/topk/hr@5", "test/topk/hr@10"))
    ]
    assert min(row["p_holm"] for row in found["metrics"].values()) == pytest.approx(len(tests) * min(tests))
    assert found["metrics"]["test/ctr/logloss"]["rows"] == 200
    assert found["metrics"]["test/topk/mrr[c10]"]["users"] == USERS
    assert (tmp_path / "out" / "diff.md").read_text(encoding="utf-8") == text
    users = [change for change in found["changes"] if (change["task"], change["kind"]) == ("ctr", "user")]
    assert users[0]["id"] == 7
    assert users[0]["rows"] == 5
    assert all(int(name.rsplit("/", 1)[1]) % USERS == 7 for name in users[0]["example_ids"])
    assert found["prompts"] == {}, "these runs' artifacts are gone: ids alone"


def test_the_other_way_round_is_the_opposite(runs):
    text, opposite = run_diff(*runs, samples=500), run_diff(*runs[::-1], samples=500)
    one, other = cells(text, "test/ctr/auc"), cells(opposite, "test/ctr/auc")
    assert (one[1], one[2], one[-1], other[-1]) == (other[2], other[1], "a better", "b better")


def test_equal_answers_differ_in_nothing(tmp_path):
    a = scored(tmp_path / "a", answers(0.2))
    text = run_diff(a, scored(tmp_path / "b", answers(0.2), "seed=1"), samples=100)
    row = cells(text, "test/ctr/auc")
    assert row[3:7] == ["+0.0000", "[+0.0000, +0.0000]", "1", "1"]
    assert row[-1] == ""
    assert "every answer is the same" in text


def test_few_users_are_not_tested_and_the_reason_is_said(tmp_path):
    runs = [
        scored(tmp_path / name, answers(shift).query("user < 4"), f"seed={seed}")
        for seed, (name, shift) in enumerate((("a", 0.4), ("b", 0.0)))
    ]
    row = cells(run_diff(*runs, tmp_path / "out", samples=100), "test/ctr/auc")
    assert row[4:7] == ["–", "–", "–"]
    assert row[-1] == "not tested: 4 users, 20 needed"
    found = json.loads((tmp_path / "out" / "diff.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found["metrics"]["test/ctr/auc"]["p"] is found["metrics"]["test/ctr/auc"]["low"] is None
    assert found["metrics"]["test/ctr/auc"]["units"] == 4


def test_users_and_items_are_named_as_the_source_names_them(tmp_path):
    """Numbers as raw ids, in another order than ckf's: nothing else tells which is meant."""
    runs = []
    for seed, shift in enumerate((0.4, 0.0)):
        rows = answers(shift)
        rows = rows.assign(raw_user=(100 - rows["user"]).astype(str), raw_item="i" + rows["item"].astype(str))
        runs.append(scored(tmp_path / str(seed), rows, f"seed={seed}"))
    text = run_diff(*runs, samples=50)
    assert "- test/ctr, user '93' (ckf's 7): " in text
    assert "- test/topk, item 'i" in text


def test_an_error_is_better_when_lower(tmp_path):
    runs = []
    for name, noise, seed in (("a", 0.2, 0), ("b", 2.0, 1)):
        rows = answers(0).query("task == 'ctr'")
        draw = np.random.default_rng(seed)
        rows = rows.assign(task="rating", label=4.0, score=4 + noise * draw.normal(size=len(rows)))
        runs.append(scored(tmp_path / name, rows, f"seed={seed}"))
    text = run_diff(*runs, samples=200)
    assert cells(text, "test/rating/rmse")[-1] == "a better"
    assert cells(text, "test/rating/rmse")[3].startswith("-")


def test_what_the_prompts_say_where_the_artifacts_are(runs, tmp_path):
    a, b = runs
    for name in ("dataset", "examples"):
        (tmp_path / name).mkdir()
    titles = pd.DataFrame({"item": range(1, 14), "title": [f"T{i}" for i in range(1, 14)]})
    titles.to_parquet(tmp_path / "dataset" / "items.parquet")
    rows = answers(0).query("source == 'cf' and task == 'ctr'")
    examples = pd.DataFrame({"example_id": rows["example_id"], "item": rows["item"]})
    examples["candidates"], examples["history"] = [[]] * len(examples), [[1, 2]] * len(examples)
    examples.to_parquet(tmp_path / "examples" / "examples.parquet")
    card = json.loads((a / "run.json").read_text(encoding="utf-8"))
    card["artifacts"]["dataset"]["path"] = str(tmp_path / "dataset")
    card["artifacts"]["examples"] = {"path": str(tmp_path / "examples"), "hash": "e"}
    (a / "run.json").write_text(json.dumps(card), encoding="utf-8")
    assert "history: T1; T2 | asked: T" in run_diff(a, b, samples=50)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows.assign(example_id=rows["example_id"].str.replace("t/1", "t/9999")), "another example set"),
        (lambda rows: rows[rows["example_id"] != "ctr/test/5"], r"260 and 259 examples, 259 of them shared"),
        (lambda rows: rows.assign(item=rows["item"] + 1), "the same examples, other candidates"),
        (lambda rows: rows.assign(label=1 - rows["label"]), "differ in their labels"),
        (lambda rows: rows.drop(columns="score"), "lacks the column score"),
        (lambda rows: pd.concat([rows, rows]), "names an example's item twice"),
    ],
)
def test_predictions_of_other_examples_are_refused(tmp_path, spoil, said):
    a = scored(tmp_path / "a", answers(0.2))
    b = scored(tmp_path / "b", spoil(answers(0.1)), "seed=1")
    with pytest.raises(ArtifactError, match=said) as refused:
        run_diff(a, b, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "options", "said"),
    [
        (["tasks.candidates=20"], {}, r"tasks.candidates \(20 and 10\)"),
        (["seed=1"], {"data": "other"}, r"dataset artifact \(other and abc\)"),
        (["seed=1"], {"metrics": {"evaluate/max_examples": 5}}, r"max_examples \(5 and None\)"),
    ],
)
def test_another_protocol_is_refused(tmp_path, overrides, options, said):
    a = scored(tmp_path / "a", answers(0.2))
    with pytest.raises(ArtifactError, match=said):
        run_diff(a, scored(tmp_path / "b", answers(0.1), *overrides, **options), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_compared(runs, tmp_path):
    a, b = runs
    with pytest.raises(ArtifactError, match="does not differ from itself"):
        run_diff(a, tmp_path / "a" / ".." / "a")
    with pytest.raises(ArtifactError, match="not a run folder"):
        run_diff(a, tmp_path)
    (b / "predictions" / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"test\.parquet: cannot be read"):
        run_diff(a, b)
    (b / "predictions" / "test.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"test\.parquet: no such file; `ckf evaluate run="):
        run_diff(a, b)
