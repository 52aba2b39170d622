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
    expected = kept.assign(row=kept["example_id"].map({name: row for row, name in enumerate(ids, start=1)}))
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
    assert "user stranger: unknown, none of the data's ids (u1, u2, u3, …); recommended to as a new user" in said
    assert said.strip().splitlines()[-1] == str(finished)
    assert found["title"][0] in said


@pytest.mark.parametrize("name", [5, "5", 5.0, "05", "U5", 10_000])
def test_only_the_sources_own_ids_name_a_user(trained, name):
    """The built-in users are u1, u2, …: a number is ckf's id of some user, which is nobody's raw id."""
    assert trained.known.user(name) == 0
    assert not trained.recommend(user=name, top=2).attrs["known"]
    assert trained.predict([{"user": name, "item": "i3"}])["known"].tolist() == [False]


def test_numbers_name_users_where_the_source_has_numbers(trained):
    named = dataclasses.replace(trained.known, raw_users=np.asarray(["", "7", "9"], dtype=object))
    assert named.user(7) == named.user("7") == named.user(" 7 ") == named.user(7.0) == named.user(np.int64(7)) == 1
    assert named.user(2) == 0, "2 is ckf's number of another user"


def test_an_unknown_user_keeps_its_id_among_the_scores(trained, finished, tmp_path, capsys):
    rows = [{"user": name, "item": "i3"} for name in ("u2", "2", "nobody", "u2")]
    found = trained.predict(rows)
    assert found["user"].tolist() == ["u2", "2", "nobody", "u2"]
    assert found["known"].tolist() == [True, False, False, True]
    assert found["score"][1] == pytest.approx(found["score"][2], abs=1e-6), "both are cold, with no history"
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    arguments = [f"run={finished}", f"input={tmp_path / 'rows.parquet'}", f"out={tmp_path / 'out.parquet'}"]
    assert main(["predict", *arguments]) == 0
    said = capsys.readouterr().err
    assert "2 of 4 rows are of users that the data does not know ('2', 'nobody', …)" in said
    assert "known=false. Ids of the data read like u" in said
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out.parquet")[["user", "known"]], found[["user", "known"]]
    )


def test_a_column_of_numbers_with_a_gap_keeps_its_ids(trained):
    """One missing value makes pandas read whole numbers as floats."""
    known = dataclasses.replace(
        trained.known, raw_items=np.asarray([str(i) if i else "" for i in range(61)], dtype=object)
    )
    other = dataclasses.replace(trained)
    other.__dict__["known"] = known
    rows = pd.DataFrame({"user": ["u1", "u1"], "item": [3.0, np.nan]})
    with pytest.raises(DataError, match=r"^rows: row 2: item is missing$"):
        other.predict(rows)
    assert other.predict(rows.head(1))["item"].tolist() == ["3"]


def test_an_example_that_is_named_twice_is_answered_twice(trained, kept):
    one, two = kept.loc[kept["task"] == "ctr", "example_id"].unique()[:2]
    found = trained.predict(pd.DataFrame({"example_id": [one, two, one]}))
    assert found["row"].tolist() == [1, 2, 3]
    assert found["score"][0] == found["score"][2] != found["score"][1]
    assert found["user"].str.match(r"u\d+$").all()


def test_predict_streams_and_resumes_to_the_same_bytes(trained, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "PART", 64)
    ids = kept["example_id"].drop_duplicates().tolist()[:200]
    pd.DataFrame({"example_id": ids}).to_parquet(tmp_path / "rows.parquet")
    whole, again = tmp_path / "whole.parquet", tmp_path / "again.parquet"
    assert predict.predict_file(trained, tmp_path / "rows.parquet", whole).resumed == 0

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
    assert predict.predict_file(trained, tmp_path / "rows.parquet", again).resumed == 128
    pd.testing.assert_frame_equal(pd.read_parquet(whole), pd.read_parquet(again))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_parts_of_another_input_do_not_count(trained, kept, tmp_path, monkeypatch):
    ids = kept["example_id"].drop_duplicates().tolist()
    folder = tmp_path / ".out.parquet.parts"
    folder.mkdir()
    (folder / "key.json").write_text("{}")
    kept.head(3).to_parquet(folder / "000000000000.parquet")
    pd.DataFrame({"example_id": ids[:5]}).to_parquet(tmp_path / "rows.parquet")
    assert predict.predict_file(trained, tmp_path / "rows.parquet", tmp_path / "out.parquet").resumed == 0


BAD = [
    ({"user": "u1", "item": "nothing"}, r"row 1: item 'nothing' is not in the catalogue \(60 items\)"),
    ({"user": " ", "item": "i1"}, "row 1: user is missing"),
    ({"user": "u1", "item": "i1", "timestamp": "2020-01-01"}, "row 1: timestamp: needs whole seconds since 1970"),
    ({"user": "u1", "item": "i1", "timestamp": pd.Timestamp(0)}, "row 1: timestamp: needs whole seconds since 1970"),
    ({"user": "u1", "item": "i1", "history": "i2"}, "row 1: history: needs a list, got 'i2'"),
    ({"user": "u1", "candidates": "i1", "task": "topk"}, "row 1: candidates: needs a list, got 'i1'"),
    (
        {"user": "u1", "item": "i1", "task": "rating", "history": ["i2"], "history_ratings": ["good"]},
        "row 1: history_ratings: .* are no numbers",
    ),
    ({"user": "u1"}, "need the columns user and item"),
    ({"user": "u1", "item": "i1", "task": "review"}, r"row 1: task 'review' is none that the run was trained on \(ctr"),
    ({"user": "u1", "candidates": ["i1"], "task": "topk"}, "row 1: candidates: a list needs two items at least, got 1"),
    ({"user": "u1", "candidates": ["i1", "i1"], "task": "topk"}, "row 1: candidates: an item is listed twice"),
    ({"user": "u1", "item": "i1", "task": "explain"}, "row 1: review is missing"),
    ({"user": "u1", "item": "i1", "colour": 3}, "unknown column 'colour'; columns are task, user"),
    ({"example_id": "ctr/test/0-0"}, r"row 1: no example 'ctr/test/0-0' \(one reads task/split/USER-ITEM"),
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
    said = capsys.readouterr()
    assert "3 rows, 1 left out" in said.out
    assert "1 of 3 rows are of users that the data does not know ('stranger', …)" in said.err
    assert pd.read_parquet(tmp_path / "out.parquet")["row"].tolist() == [1, 3]


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
    with pytest.raises(
        ArtifactError, match=r"its backbone artifact \w+ is not at .*nowhere; name the cache that has it"
    ):
        ckf.load(copy)


def test_raw_ids_are_what_a_user_types(trained):
    names = raw_ids(trained.inputs.dataset, "user")
    assert trained.known.user(names[3]) == 3
    assert Path(trained.run).is_dir()
