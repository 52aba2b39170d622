"""A finished run put to use: recommendations, rows of one's own, probes, and what is refused."""

from __future__ import annotations

import dataclasses
import doctest
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ckf
from ckf.assembly import task_names
from ckf.cli.main import main
from ckf.core.artifact_store import read_json
from ckf.core.errors import ArtifactError, DataError
from ckf.data.example_table import ExampleTable
from ckf.data.interaction_keys import raw_ids
from ckf.inference import predict
from ckf.inference.probe import probe
from ckf.tasks import BUILT_IN


@pytest.fixture(scope="module")
def kept(finished) -> pd.DataFrame:
    rows = pd.read_parquet(finished / "predictions" / "test.parquet")
    return rows[rows["source"] == "model"]


def test_the_documented_examples_hold(finished):
    found = doctest.testmod(ckf, extraglobs={"run": finished})
    assert found.attempted >= 8
    assert found.failed == 0


def test_importing_ckf_is_light():
    import subprocess
    import sys

    heavy = "import sys, ckf; print([m for m in ('torch', 'transformers', 'pandas', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_prepared_examples_score_as_in_evaluate(trained, kept):
    ids = kept["example_id"].drop_duplicates().tolist()
    found = trained.predict(pd.DataFrame({"example_id": ids}))
    expected = kept.assign(row=kept["example_id"].map({name: row for row, name in enumerate(ids)}))
    expected = expected.sort_values(["row", "position"])
    assert len(found) == len(expected)
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-5)
    assert found["answer"].tolist() == expected["answer"].tolist()


def test_own_rows_score_as_in_evaluate(trained, kept):
    """The test split written down as a user's rows, raw ids and all, gives the numbers of evaluate."""
    known, tasks = trained.known, task_names(trained.exp)
    table = ExampleTable(trained.inputs.examples / "examples.parquet", "test", tasks)
    rows = []
    for number in range(0, len(table), 7):
        x = table[number]
        row = {"task": x.task, "user": known.raw_users[x.user], "item": known.raw_items[x.item]}
        row["history"] = [known.raw_items[item] for item in x.history]
        if x.task == "topk":
            row["candidates"] = [known.raw_items[item] for item in x.candidates]
        if x.task == "rating":
            row["history_ratings"] = x.history_ratings.tolist()
        rows.append({**row, "review": x.review})
    found = trained.predict(rows)
    ids = [table.example_id[number] for number in range(0, len(table), 7)]
    expected = kept.set_index("example_id").loc[ids]
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-5)
    assert set(found["task"]) == set(tasks)


def test_a_timestamp_takes_what_lies_before_it(trained):
    known = trained.known
    user = int(np.argmax(np.diff(known.first)))
    past = known.example("ctr", BUILT_IN["ctr"], user, 0)
    moment = int(known.timestamp[known.first[user] + 5])
    earlier = known.example("ctr", BUILT_IN["ctr"], user, 0, before=moment)
    assert len(earlier.history) < len(past.history) or (earlier.history != past.history).any()
    rows = [{"user": known.raw_users[user], "item": known.raw_items[1], "timestamp": moment}]
    own = [{**rows[0], "history": [known.raw_items[i] for i in earlier.history]}]
    assert trained.predict(rows)["score"][0] == pytest.approx(trained.predict(own)["score"][0], abs=1e-6)


def test_recommendations_are_new_to_the_user_and_in_order(trained):
    found = trained.recommend(user="u5", top=8)
    assert found["place"].tolist() == list(range(1, 9))
    assert found["score"].is_monotonic_decreasing
    assert found["rating"].between(1, 5).all()
    known = trained.known
    met = {known.raw_items[item] for item in known.seen_items(known.user("u5"))}
    assert not met & set(found["item"])
    everything = trained.recommend(user="u5", top=60, seen=True)
    assert len(everything) == 60
    assert met & set(everything["item"])
    scores = trained.predict([{"user": "u5", "item": item} for item in found["item"]])
    np.testing.assert_allclose(scores["score"], found["score"], atol=1e-5)


def test_an_unknown_user_gets_what_a_new_user_would(trained, finished, capsys):
    found = trained.recommend(user="stranger", top=3)
    assert not found.attrs["known"]
    assert len(found) == 3
    assert main(["recommend", f"run={finished}", "user=stranger", "top=3"]) == 0
    said = capsys.readouterr().out
    assert "user stranger: not in the data, so recommended to as a new user" in said
    assert said.strip().splitlines()[-1] == str(finished)
    assert found["title"][0] in said


def test_a_number_names_a_user_only_where_no_raw_id_is_a_number(trained):
    known = trained.known
    assert known.user(5) == known.user("5") == 5
    assert known.user(10_000) == 0
    named = dataclasses.replace(known, raw_users=np.asarray(["", "7", "9"], dtype=object))
    assert named.user(7) == 1
    assert named.user(2) == 0, "2 is ckf's number of another user"


def test_predict_streams_and_resumes_to_the_same_bytes(trained, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "PART", 64)
    ids = kept["example_id"].drop_duplicates().tolist()[:200]
    pd.DataFrame({"example_id": ids}).to_parquet(tmp_path / "rows.parquet")
    whole, again = tmp_path / "whole.parquet", tmp_path / "again.parquet"
    assert predict.predict_file(trained, tmp_path / "rows.parquet", whole)["resumed"] == 0

    class Killed(BaseException):
        pass

    original, done = predict._score_part, []

    def kill(*arguments):
        if len(done) == 2:
            raise Killed
        done.append(original(*arguments))

    monkeypatch.setattr(predict, "_score_part", kill)
    with pytest.raises(Killed):
        predict.predict_file(trained, tmp_path / "rows.parquet", again)
    assert not again.exists()
    monkeypatch.setattr(predict, "_score_part", original)
    assert predict.predict_file(trained, tmp_path / "rows.parquet", again)["resumed"] == 128
    pd.testing.assert_frame_equal(pd.read_parquet(whole), pd.read_parquet(again))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_parts_of_another_input_do_not_count(trained, kept, tmp_path, monkeypatch):
    ids = kept["example_id"].drop_duplicates().tolist()
    folder = tmp_path / ".out.parquet.parts"
    folder.mkdir()
    (folder / "key.json").write_text("{}")
    kept.head(3).to_parquet(folder / "000000000000.parquet")
    pd.DataFrame({"example_id": ids[:5]}).to_parquet(tmp_path / "rows.parquet")
    assert predict.predict_file(trained, tmp_path / "rows.parquet", tmp_path / "out.parquet")["resumed"] == 0


BAD = [
    ({"user": "u1", "item": "nothing"}, r"row 1: item 'nothing' is not in the catalogue \(60 items\)"),
    ({"user": "u1"}, "need the columns user and item"),
    ({"user": "u1", "item": "i1", "task": "review"}, r"row 1: task 'review' is none that the run was trained on \(ctr"),
    ({"user": "u1", "candidates": ["i1"], "task": "topk"}, "row 1: candidates: a list needs two items at least, got 1"),
    ({"user": "u1", "candidates": ["i1", "i1"], "task": "topk"}, "row 1: candidates: an item is listed twice"),
    ({"user": "u1", "item": "i1", "task": "explain"}, "row 1: review is missing"),
    ({"user": "u1", "item": "i1", "colour": 3}, "unknown column 'colour'; columns are task, user"),
    ({"example_id": "ctr/test/0-0"}, r"row 1: no example 'ctr/test/0-0' \(one reads task/split/user-item"),
    (
        {"user": "u1", "item": "i1", "task": "rating", "history": ["i2"]},
        "row 1: history_ratings: 0 ratings for 1 items of the history",
    ),
]


@pytest.mark.parametrize(("row", "problem"), BAD)
def test_a_row_that_cannot_be_scored_is_one_line(trained, row, problem):
    with pytest.raises(DataError, match=problem) as caught:
        trained.predict([row])
    assert "\n" not in str(caught.value)


def test_bad_rows_stop_or_are_left_out_by_number(trained, finished, tmp_path, capsys):
    rows = pd.DataFrame({"user": ["u1", "u2", "stranger"], "item": ["i1", "gone", "i3"]})
    rows.to_parquet(tmp_path / "rows.parquet")
    arguments = [f"run={finished}", f"input={tmp_path / 'rows.parquet'}", f"out={tmp_path / 'out.parquet'}"]
    assert main(["predict", *arguments]) == 1
    assert (
        capsys.readouterr().err.strip().endswith("rows.parquet: row 2: item 'gone' is not in the catalogue (60 items)")
    )
    assert not (tmp_path / "out.parquet").exists()
    assert main(["predict", *arguments, "bad_rows=skip"]) == 0
    assert "3 rows, 1 left out, 1 of users that the data does not know" in capsys.readouterr().out
    assert pd.read_parquet(tmp_path / "out.parquet")["row"].tolist() == [0, 2]


@pytest.mark.parametrize(("content", "problem"), [(b"", "no Parquet file"), (b"a,b\n1,2\n", "no Parquet file")])
def test_a_file_that_is_no_parquet(trained, tmp_path, content, problem):
    (tmp_path / "rows.parquet").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        predict.predict_file(trained, tmp_path / "rows.parquet", tmp_path / "out.parquet")


def test_an_empty_file_and_a_missing_one(trained, tmp_path):
    pd.DataFrame({"user": [], "item": []}).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="holds no rows"):
        predict.predict_file(trained, tmp_path / "rows.parquet", tmp_path / "out.parquet")
    with pytest.raises(DataError, match="no such file"):
        predict.predict_file(trained, tmp_path / "none.parquet", tmp_path / "out.parquet")


def test_the_probe_says_health_and_favourite_places(trained):
    text, found = probe(trained)
    assert {"diagnostics/change_zeroed", "diagnostics/ctr/auc", "probe/lists"} <= set(found)
    assert {f"probe/hr@1@position_{place}" for place in range(5)} <= set(found)
    assert "HR@1 with the target in each place" in text
    lines = [json.loads(line) for line in (trained.run / "evaluations.jsonl").read_text().splitlines()]
    assert lines[-1]["split"] == "val"


def test_a_folder_that_lost_its_backbone_or_was_altered(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("history_items: 10", "history_items: 9"))
    with pytest.raises(ArtifactError, match=r"config.yaml: was altered after training"):
        ckf.load(copy)
    (copy / "config.yaml").write_text(config)
    metadata = read_json(copy / "run.json")
    metadata["artifacts"]["backbone"]["path"] = str(tmp_path / "nowhere")
    (copy / "run.json").write_text(json.dumps(metadata))
    with pytest.raises(ArtifactError, match=r"its backbone .*nowhere is gone"):
        ckf.load(copy)


def test_raw_ids_are_what_a_user_types(trained):
    names = raw_ids(trained.inputs.dataset, "user")
    assert trained.known.user(names[3]) == 3
    assert Path(trained.run).is_dir()
