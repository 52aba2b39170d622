"""Evaluation beyond the listed candidates: whole catalogue, other protocols, other data, own lists, more processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ckf.cli.main import main
from ckf.core.artifact_store import read_json
from ckf.data.example_table import ExampleTable
from ckf.eval.compute_metrics import further_metrics
from ckf.eval.extra_protocols import load_catalogue, retrieval_of
from ckf.pipeline import run as pipeline
from ckf.runs.folder import read_run
from ckf.tasks import BUILT_IN
from tests.integration.conftest import run_small


@pytest.fixture(scope="module")
def everything(finished, tmp_path_factory) -> Path:
    """The finished run scored by every protocol, in a folder of its own."""
    out = tmp_path_factory.mktemp("all") / "out"
    asked = [
        "evaluate.candidate_source=all",
        "evaluate.rerank_items=20",
        "evaluate.protocols=[slots,generate,constrained]",
    ]
    return pipeline.evaluate(finished, [*asked, "evaluate.max_examples=40"], out=out)


def test_every_ranking_metric_names_its_protocol(everything):
    metrics = read_json(everything / "metrics.json")
    ranking = [key for key in metrics if "/topk/" in key and any(w in key for w in ("hr@", "ndcg@", "mrr", "map@"))]
    assert all("[" in key for key in ranking)
    tags = {key[key.index("[") : key.index("]") + 1] for key in ranking}
    assert tags == {"[c5]", "[full]", "[rerank20]", "[gen]", "[trie]", "[slot]"}
    assert {"cf/test/topk/hr@10[full]", "bias/test/topk/hr@10[full]", "test/topk/hr@10[rerank20]"} <= set(metrics)
    for tag in tags - {"[c5]"}:
        source = "cf/" if tag == "[full]" else ""
        assert metrics[f"{source}test/topk/n{tag}"] == 40
    assert "test/topk/hr@5[gen]" not in metrics, "one written title is no order"


def test_every_file_of_predictions_holds_the_sources_ids(everything, finished):
    """ckf's number of a user is not that of its name (u10 comes before u2), so a join by it is silently wrong."""
    dataset = Path(read_run(finished)[1]["artifacts"]["dataset"]["path"])
    paths = sorted((everything / "predictions").glob("*.parquet"))
    assert len(paths) == 6
    for path in paths:
        rows = pd.read_parquet(path)
        for kind in ("user", "item"):
            names = pd.read_parquet(dataset / f"{kind}s.parquet").set_index(kind)["raw_id"].astype(str)
            assert rows[f"raw_{kind}"].tolist() == names.reindex(rows[kind]).tolist(), path


def test_no_column_of_the_report_holds_two_protocols(everything):
    """Every further protocol has a table of its own, and every column says which."""
    page = (everything / "report.md").read_text()
    for tag in ("[full]", "[rerank20]", "[gen]", "[trie]", "[slot]"):
        (table,) = [part for part in page.split("\n## ") if part.startswith(f"topk {tag} (test)")]
        header = next(line for line in table.splitlines() if line.startswith("|"))
        assert header.count("HR@1 [") == header.count(f"HR@1 {tag}") == 1


def test_metrics_come_from_the_files_alone(everything):
    metrics = read_json(everything / "metrics.json")
    for path in sorted((everything / "predictions").glob("test-*.parquet")):
        again = further_metrics(pd.read_parquet(path), "test", path.stem.removeprefix("test-"), BUILT_IN)
        assert again
        assert {key: metrics[key] for key in again} == pytest.approx(again)


def test_the_whole_order_by_hand(everything, finished):
    """Ranks against a sort of every item that is none of the user's other likes."""
    rows = pd.read_parquet(everything / "predictions" / "test-full.parquet")
    card = read_run(finished)[1]
    dataset = Path(card["artifacts"]["dataset"]["path"])
    log = pd.read_parquet(dataset / "interactions.parquet")
    liked = log[(log["click"] > 0) & (log["split"] == "train")].groupby("item").size()
    items = pd.read_parquet(dataset / "items.parquet")["item"]
    for _, part in rows[rows["source"] == "bias"].groupby("example_id"):
        user, target = part["user"].iloc[0], int(part.loc[part["label"] > 0, "item"].iloc[0])
        other = set(log.loc[(log["user"] == user) & (log["click"] > 0), "item"]) - {target}
        counts = {item: liked.get(item, 0) for item in items if item not in other}
        ahead = sum(count >= counts[target] for count in counts.values())
        assert (part["rank"] == ahead).all()
        assert not other & set(part["item"])


def test_retrieval_orders_lists_as_the_cf_model_does(finished):
    """The exported vectors with the model's own weights say what its predictions say."""
    from ckf.eval.evaluate import device_of
    from ckf.eval.extra_protocols import Sources

    exp, card = read_run(finished)
    places = {name: Path(card["artifacts"][name]["path"]) for name in ("dataset", "examples", "cf")}
    scores = retrieval_of(
        exp, Sources(None, places["dataset"], places["cf"], device_of(exp)), load_catalogue(places["dataset"])
    )
    table = ExampleTable(places["examples"] / "examples.parquet", "test", ["topk"])
    kept = pd.read_parquet(places["cf"] / "predictions.parquet").set_index("example_id")
    for row in range(len(table)):
        mine = scores([table[row]])[0][table.list_of("candidates", row)]
        expected = kept.loc[table.example_id[row]]
        assert expected["item"].tolist() == table.list_of("candidates", row).tolist()
        difference = mine - expected["score"].to_numpy()
        np.testing.assert_allclose(difference, difference[0], atol=2e-3)  # but for a constant; weights are rounded


def test_a_target_that_retrieval_missed_counts_as_the_worst(everything):
    rows = pd.read_parquet(everything / "predictions" / "test-rerank20.parquet")
    found = rows.groupby("example_id")["label"].sum()
    metrics = read_json(everything / "metrics.json")
    assert metrics["test/topk/hr@10[rerank20]"] <= found.mean() <= 1
    assert (rows.groupby("example_id").size() == 20).all()


def test_two_processes_score_the_same_numbers(finished, tmp_path):
    one = pipeline.evaluate(finished, ["evaluate.max_examples=60"], out=tmp_path / "one")
    two = pipeline.evaluate(finished, ["evaluate.max_examples=60", "trainer.devices=2"], out=tmp_path / "two")
    frames = [pd.read_parquet(run / "predictions" / "test.parquet") for run in (one, two)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_length_normalisation_is_said_in_the_name(finished, tmp_path):
    out = pipeline.evaluate(finished, ["evaluate.length_normalisation=mean"], out=tmp_path / "mean")
    metrics = read_json(out / "metrics.json")
    assert "test/topk/hr@1[c5-mean]" in metrics
    assert not any("[c5]" in key for key in metrics)
    assert "[c5-mean]" in (out / "report.md").read_text()


def test_another_dataset_takes_the_model_and_its_own_cf_vectors(finished, tmp_path, capsys):
    before = (finished / "metrics.json").read_bytes()
    other = ["dataset=synthetic", "dataset.users=60", "dataset.items=50", "dataset.data_seed=9"]
    asked = [f"run={finished}", *other, "dataset.interactions_per_user=16", "evaluate.max_examples=50"]
    assert main(["evaluate", *asked]) == 2
    assert "out: required with other data or lists" in capsys.readouterr().err
    assert main(["evaluate", *asked, f"out={tmp_path / 'there'}"]) == 0
    card = read_json(tmp_path / "there" / "run.json")
    mine = read_json(finished / "run.json")["artifacts"]
    assert card["artifacts"]["dataset"]["hash"] != mine["dataset"]["hash"]
    assert card["evaluates"] == str(finished)
    metrics = read_json(tmp_path / "there" / "metrics.json")
    assert {"test/ctr/auc", "cf/test/ctr/auc", "bias/test/ctr/auc"} <= set(metrics)
    assert (finished / "metrics.json").read_bytes() == before
    assert main(["evaluate", *asked, f"out={finished}"]) == 1
    assert "is itself a run" in capsys.readouterr().err


def write_lists(path: Path, trained, change=None) -> pd.DataFrame:
    table = ExampleTable(trained.inputs.examples / "examples.parquet", "test", ["topk"])
    known, rows = trained.known, []
    for number in range(12):
        x = table[number]
        kept = [int(item) for item in x.candidates if item != x.item][:2]
        names = [str(known.raw_items[item]) for item in (*kept, x.item)]
        rows.append({"user": str(known.raw_users[x.user]), "item": names[-1], "candidates": names})
    if change:
        change(rows)
    frame = pd.DataFrame(rows)
    frame.to_parquet(path)
    return frame


def test_own_lists_have_a_protocol_of_their_own(finished, trained, tmp_path):
    def another(rows):
        rows.append({**rows[0], "user": rows[1]["user"]})

    write_lists(tmp_path / "lists.parquet", trained, another)
    asked = ["evaluate.candidate_source=file", f"evaluate.candidate_file={tmp_path / 'lists.parquet'}"]
    out = pipeline.evaluate(finished, asked, out=tmp_path / "out")
    metrics = read_json(out / "metrics.json")
    (tag,) = {key[key.index("[") :] for key in metrics if key.startswith("test/topk/hr@1[") and key[-1] == "]"}
    assert tag.startswith("[file-")
    assert metrics["test/topk/n"] == 12
    assert metrics["test/candidate_lists_left_out"] == 1
    assert "1 lists of the candidate file are for no topk example" in (out / "report.md").read_text()
    assert {f"cf/test/topk/hr@1{tag}", f"bias/test/topk/hr@1{tag}"} <= set(metrics)


def _one(rows):
    rows[3]["candidates"] = rows[3]["candidates"][-1:]


def _stranger(rows):
    rows[1]["user"] = "nobody"


def _unknown(rows):
    rows[2]["candidates"][0] = "nothing"


def _no_target(rows):
    rows[0]["candidates"] = rows[0]["candidates"][:-1]


def _twice(rows):
    rows.append(rows[4])


def _text(rows):
    for row in rows:
        row["candidates"] = ",".join(row["candidates"])


LISTS = [
    (_twice, "have a list already, in row 5"),
    (_text, "row 1: candidates: needs a list of items, got 'i"),
    (_one, "row 4: a list needs two candidates at least, got 1"),
    (_stranger, "row 2: user 'nobody' is not in the data"),
    (_unknown, "row 3: item 'nothing' is not in the catalogue"),
    (_no_target, "row 1: a list holds its target once and no item twice"),
    (lambda rows: rows.clear(), "lacks the column user"),
]


@pytest.mark.parametrize(("change", "problem"), LISTS)
def test_lists_that_cannot_be_ranked_are_one_line(finished, trained, tmp_path, capsys, change, problem):
    write_lists(tmp_path / "lists.parquet", trained, change)
    asked = [
        f"run={finished}",
        "evaluate.candidate_source=file",
        f"evaluate.candidate_file={tmp_path / 'lists.parquet'}",
        f"out={tmp_path / 'out'}",
    ]
    assert main(["evaluate", *asked]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"ckf: {tmp_path / 'lists.parquet'}: ")
    assert problem in line
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_reports_of_other_protocols_are_refused(finished, home, tmp_path):
    from ckf.core.errors import ArtifactError
    from ckf.report.build import report

    mean = pipeline.evaluate(finished, ["evaluate.length_normalisation=mean"], out=tmp_path / "mean")
    with pytest.raises(ArtifactError, match=r"differ in evaluate.length_normalisation"):
        report([finished, mean], tmp_path / "report")
    other = run_small(home, "fusion=linear", "tasks.candidates=6", "baselines.text_only=false")
    with pytest.raises(ArtifactError, match=r"differ in tasks.candidates"):
        report([finished, other], tmp_path / "report")


def test_a_model_without_item_slots_has_no_match(finished, capsys, tmp_path):
    text = read_json(finished / "run.json")["artifacts"]["text"]["path"]
    asked = [f"run={text}", "evaluate.protocols=[slots]", "evaluate.max_examples=10", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", *asked]) == 2
    assert "slot match: needs a fusion with <item> slots" in capsys.readouterr().err
    assert json.loads((Path(text) / "metrics.json").read_text())
