"""A table: from run folders into results.csv and provenance.csv, and from these alone into RESULTS.md."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from ckf.config.compose import compose
from ckf.config.sweep_file import load_sweep
from ckf.core.errors import ArtifactError, ConfigError
from ckf.report.result_store import Provenance, finished_keys, read_results, shown_metrics, write_results
from ckf.report.sweep_table import render_table
from ckf.runs.folder import result_key
from tests.unit.report.runs import cells, make_run

SWEEP = """
title: T
question: Q?
overrides: [dataset=synthetic]
grid: {fusion: [linear, meta], seed: [0, 1]}
rows: [fusion]
metrics: [test/ctr/auc, test/rating/rmse]
control: {fusion: linear}
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    return folder


def fill(outputs):
    """Both seeds of one row, one seed of the other."""
    for seed in (0, 1):
        metrics = {"test/ctr/auc": 0.7 + seed / 10, "text/test/ctr/auc": 0.5 + seed / 10}
        make_run(outputs / f"m{seed}", "fusion=meta", f"seed={seed}", metrics=metrics)
    metrics = {"test/ctr/auc": 0.6, "test/rating/rmse": 1.0, "text/test/ctr/auc": 0.5}
    make_run(outputs / "l0", "fusion=linear", metrics=metrics)


def test_a_table_is_rendered_from_runs_and_again_from_its_results(folder, tmp_path):
    fill(tmp_path / "outputs")
    text = render_table(folder, tmp_path / "outputs").read_text(encoding="utf-8")
    assert cells(text, "fusion=meta")[1:] == ["**0.7500 ± 0.0707**", "<ins>1.2000 ± 0.0000</ins>", "2"]
    assert cells(text, "fusion=linear")[1:] == ["0.6000", "**1.0000**", "1 (single seed)"]
    assert cells(text, "text-only")[1:] == ["0.5500 ± 0.0707", "–", "2"]
    assert cells(text, "CF model")[1:] == ["<ins>0.7000 ± 0.0000</ins>", "–", "2"]
    assert cells(text, "bias baseline")[1] == "0.6600"
    assert "Not finished: fusion=linear seed=1" in text
    assert "2 cores, Python 3.11.0" in text
    assert len((folder / "provenance.csv").read_text(encoding="utf-8").splitlines()) == 1 + 3
    kept = {name: (folder / name).read_bytes() for name in ("results.csv", "provenance.csv")}
    figure = (folder / "RESULTS.svg").read_text(encoding="utf-8")
    again = render_table(folder, tmp_path / "gone").read_text(encoding="utf-8")
    assert again == text
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert (folder / "RESULTS.svg").read_text(encoding="utf-8") == figure
    assert figure.startswith("<svg")
    page = tmp_path / "gone/tables/t.html"
    lines = page.with_suffix(".csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "fusion,ctr/auc,ctr/auc sd,rating/rmse,rating/rmse sd,seeds"
    assert "fusion=meta,0.7500,0.0707,1.2000,0.0000,2" in lines
    latex = page.with_suffix(".tex").read_text(encoding="utf-8")
    assert r"\textbf{0.7500 $\pm$ 0.0707} & \underline{1.2000 $\pm$ 0.0000} & 2 \\" in latex
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "RESULTS.md", "RESULTS.svg", "provenance.csv", "results.csv", "sweep.yaml",
    ]  # fmt: skip


def test_rows_are_compared_seed_by_seed(folder, tmp_path):
    """Differences .1, .2 and .3 from text-only: mean .2, sd .1, half width 4.3027 * .1 / sqrt(3)."""
    path = folder / "sweep.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("seed: [0, 1]", "seed: [0, 1, 2]"), encoding="utf-8")
    for seed in range(3):
        values = {"test/ctr/auc": 0.6 + 0.2 * seed, "text/test/ctr/auc": 0.5 + 0.1 * seed}
        make_run(tmp_path / f"o/m{seed}", "fusion=meta", f"seed={seed}", metrics=values)
        values = {"test/ctr/auc": 0.6 + 0.2 * seed - 0.05, "text/test/ctr/auc": None}
        make_run(tmp_path / f"o/l{seed}", "fusion=linear", f"seed={seed}", metrics=values)
    text = render_table(folder, tmp_path / "o").read_text(encoding="utf-8")
    of_seeds = "(95% t-interval, paired over 3 seeds)"
    assert f"- fusion=meta minus text-only, ctr/auc: +0.2000 [-0.0484, +0.4484] {of_seeds}" in text
    assert f"- fusion=meta minus fusion=linear, ctr/auc: +0.0500 [+0.0500, +0.0500] {of_seeds}" in text
    assert "- fusion=linear minus" not in text


def test_what_differs_from_the_best_baseline_over_seeds_is_marked(folder, tmp_path):
    path = folder / "sweep.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("seed: [0, 1]", "seed: [0, 1, 2, 3]"), encoding="utf-8")
    for seed in range(4):
        base = {"text/test/ctr/auc": 0.5, "cf/test/ctr/auc": 0.6 + seed / 100, "bias/test/ctr/auc": 0.55}
        near = 0.6 + seed / 100 + (-1) ** seed / 50
        for fusion, value in (("meta", 0.8 + seed / 90), ("linear", near)):
            values = {**base, "test/ctr/auc": value}
            make_run(tmp_path / f"o/{fusion}{seed}", f"fusion={fusion}", f"seed={seed}", metrics=values)
    text = render_table(folder, tmp_path / "o").read_text(encoding="utf-8")
    assert cells(text, "fusion=meta")[1].endswith(r"**\*")
    assert "*" not in cells(text, "fusion=linear")[1]
    assert "paired t-test over seeds" in text
    assert "better" in (tmp_path / "o/tables/t.csv").read_text(encoding="utf-8")


def test_figures_of_a_few_rows_are_not_tested(folder, tmp_path):
    """Seeds vary the training, not the users: a test over seeds knows nothing of other users."""
    for seed in range(2):
        for fusion, value in (("meta", 0.8 + seed / 90), ("linear", 0.7)):
            values = {"text/test/ctr/auc": 0.5 + seed / 99, "test/ctr/auc": value, "test/ctr/n": 19}
            make_run(tmp_path / f"o/{fusion}{seed}", f"fusion={fusion}", f"seed={seed}", metrics=values)
    text = render_table(folder, tmp_path / "o").read_text(encoding="utf-8")
    assert "*" not in cells(text, "fusion=meta")[1].replace("**", "")
    assert "Not tested, since there are fewer than 20 rows and so fewer users: " in text


def test_a_result_says_where_it_comes_from(folder, tmp_path):
    fill(tmp_path / "outputs")
    render_table(folder, tmp_path / "outputs")
    with (folder / "provenance.csv").open(encoding="utf-8") as file:
        kept = next(line for line in csv.DictReader(file) if line["seed"] == "1")
    config = compose(["dataset=synthetic", "fusion=meta", "seed=1"])[0]
    assert kept == {
        "key": result_key(config), "row": "fusion=meta", "seed": "1", "commit": "0123", "data": "abc",
        "command": "ckf dataset=synthetic fusion=meta seed=1", "versions": "torch 2.0",
        "machine": "2 cores, Python 3.11.0", "seconds": "3.5",
    }  # fmt: skip
    text = (folder / "results.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "row,seed,source,split,task,metric,slice,protocol,value,low,high,n"
    assert "fusion=meta,1,model,test,ctr,auc,,,0.8,,,1000" in text.splitlines()
    assert "uauc" not in text, "only what the page shows"
    assert str(tmp_path) not in text


def test_figures_come_back_as_they_were_kept(folder, tmp_path):
    """With slices, protocols, intervals and differences; one that is the same in all rows is written once."""
    sweep = load_sweep(folder / "sweep.yaml")
    sweep.metrics = [
        "test/ctr/auc@warm_3", "test/topk/ndcg@10[c10]@users_q1", "test/ctr/auc_minus_text_low", "cost/train_seconds",
        "oracle/test/ctr/auc_share",
    ]  # fmt: skip
    own = {
        "test/ctr/auc@warm_3": 0.123457, "test/ctr/n@warm_3": 40.0, "test/topk/ndcg@10[c10]@users_q1": 0.5,
        "test/ctr/auc_minus_text": 0.1, "test/ctr/auc_minus_text_low": 0.05, "test/ctr/auc_minus_text_high": 0.15,
        "cost/train_seconds": 12.5, "oracle/test/ctr/auc_share": 0.9, 
    }  # fmt: skip
    bias = {"bias/test/ctr/auc@warm_3": 0.6, "bias/test/topk/ndcg@10[c10]@users_q1": 0.4}
    text = {row: {"text/test/ctr/auc@warm_3": 0.52 if row == "b" else 0.51} for row in ("a, b=1", "b", "c")}
    results = [
        (Provenance(f"k{row}{seed}", row, seed, "c", "0", "d", "v", "m", None), {**own, **bias, **extra, **text[row]})
        for row in ("a, b=1", "b", "c")
        for seed, extra in ((0, {"cf/test/ctr/auc@warm_3": 0.7}), (1, {"cf/test/ctr/auc@warm_3": 0.8}))
    ]
    write_results(folder / "sweep.yaml", results, shown_metrics(sweep))
    assert read_results(folder / "sweep.yaml") == results
    lines = (folder / "results.csv").read_text(encoding="utf-8").splitlines()
    shared = [line for line in lines if any(f",{source}," in line for source in ("text", "cf", "bias"))]
    assert shared == [
        '"a, b=1; c",*,text,test,ctr,auc,warm_3,,0.51,,,',
        "b,*,text,test,ctr,auc,warm_3,,0.52,,,",
        "*,0,cf,test,ctr,auc,warm_3,,0.7,,,",
        "*,1,cf,test,ctr,auc,warm_3,,0.8,,,",
        "*,*,bias,test,ctr,auc,warm_3,,0.6,,,",
        "*,*,bias,test,topk,ndcg@10,users_q1,c10,0.4,,,",
    ]


def test_a_broken_file_of_results_is_named(folder, tmp_path):
    fill(tmp_path / "outputs")
    render_table(folder, tmp_path / "outputs")
    path = folder / "results.csv"
    good = path.read_text(encoding="utf-8")
    for bad, said in (
        (good.replace("0.8,", "much,"), r"line \d+ cannot be read"),
        ("a,b\n1,2\n", "its columns must be"),
    ):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(ArtifactError, match=said):
            render_table(folder, tmp_path / "gone")


def test_results_of_a_dirty_tree_are_refused(folder, tmp_path):
    fill(tmp_path / "outputs")
    path = tmp_path / "outputs/m1/run.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"0123"', '"0123-dirty"'), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"1 of 3 results .* uncommitted changes .*fusion=meta, seed 1") as refused:
        render_table(folder, tmp_path / "outputs")
    assert "\n" not in str(refused.value)
    assert not (folder / "results.csv").exists()


def test_rows_of_different_commits_are_called_so(folder, tmp_path):
    fill(tmp_path / "outputs")
    text = render_table(folder, tmp_path / "outputs").read_text(encoding="utf-8")
    assert "Commit: 0123." in text
    path = tmp_path / "outputs/m1/run.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"0123"', '"4567"'), encoding="utf-8")
    text = render_table(folder, tmp_path / "outputs").read_text(encoding="utf-8")
    assert "Rows come from different commits: 0123 (2 runs), 4567 (1 runs)." in text


def carried_over(folder, tmp_path, data="abc"):
    """Results as an older format of runs left them."""
    fill(tmp_path / "outputs")
    render_table(folder, tmp_path / "outputs")
    kept = (folder / "provenance.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    lines = [kept[0], *("format1:" + line.replace(",abc,", f",{data},") for line in kept[1:])]
    (folder / "provenance.csv").write_text("".join(lines), encoding="utf-8")


def test_results_of_an_older_format_are_shown_but_not_done(folder, tmp_path):
    carried_over(folder, tmp_path)
    text = render_table(folder, tmp_path / "gone").read_text(encoding="utf-8")
    assert cells(text, "fusion=meta")[1] == "**0.7500 ± 0.0707**"
    assert "All runs were made before the present format" in text
    assert finished_keys(folder / "sweep.yaml") == set()
    make_run(tmp_path / "new" / "m", "fusion=meta", metrics={"test/ctr/auc": 0.9})
    text = render_table(folder, tmp_path / "new").read_text(encoding="utf-8")
    assert cells(text, "fusion=meta")[1] == "**0.8500 ± 0.0707**", "seed 0 is new, seed 1 carried over"
    assert len(finished_keys(folder / "sweep.yaml")) == 1
    assert "2 of 3 runs were made before the present format" in text


def test_carried_over_results_give_way_to_runs_on_other_data(folder, tmp_path, capsys):
    carried_over(folder, tmp_path, data="old")
    text = render_table(folder, tmp_path / "gone").read_text(encoding="utf-8")
    assert cells(text, "fusion=linear")[1] == "0.6000"
    make_run(tmp_path / "new" / "m", "fusion=meta", metrics={"test/ctr/auc": 0.9})
    text = render_table(folder, tmp_path / "new").read_text(encoding="utf-8")
    assert cells(text, "fusion=meta")[1] == "**0.9000**"
    assert "fusion=linear" not in text.partition("Not finished")[0]
    assert "fusion=linear seed=0" in text.partition("Not finished")[2]
    assert "3 results carried over" not in capsys.readouterr().err.replace("2 results carried over", "")


def test_two_processes_keep_the_results_of_both(folder, tmp_path):
    """Each has other runs in its outputs; what one has kept the other keeps."""
    make_run(tmp_path / "a/m", "fusion=meta")
    make_run(tmp_path / "b/l", "fusion=linear")
    code = (
        "import sys, pathlib; from ckf.report.sweep_table import render_table as r; r(*map(pathlib.Path, sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    both = [subprocess.Popen([*command, str(tmp_path / name)]) for name in ("a", "b")]
    assert [process.wait(120) for process in both] == [0, 0]
    assert [kept.row for kept, _ in read_results(folder / "sweep.yaml")] == ["fusion=linear", "fusion=meta"]


def test_a_bias_baseline_that_wins_is_the_bold_one(folder, tmp_path):
    make_run(tmp_path / "outputs" / "a", "fusion=meta", metrics={"cf/test/ctr/auc": 0.5})
    text = render_table(folder, tmp_path / "outputs").read_text(encoding="utf-8")
    assert cells(text, "fusion=meta")[1] == "<ins>0.6123</ins>"
    assert cells(text, "bias baseline")[1] == "**0.6600**"


def test_a_baseline_that_depends_on_the_row_has_a_row_for_each(tmp_path):
    """The text-only baseline of rank 4 is not that of rank 8; the bias baseline is the same for both."""
    (tmp_path / "sweep.yaml").write_text(
        SWEEP.replace("fusion: [linear, meta]", "lora.rank: [4, 8]")
        .replace("[fusion]", "[lora.rank]")
        .replace("fusion: linear", ""),
        encoding="utf-8",
    )
    for rank in (4, 8):
        make_run(tmp_path / "o" / str(rank), f"lora.rank={rank}", metrics={"text/test/ctr/auc": rank / 100})
    text = render_table(tmp_path, tmp_path / "o").read_text(encoding="utf-8")
    assert cells(text, "text-only (lora.rank=4)")[1] == "0.0400"
    assert cells(text, "text-only (lora.rank=8)")[1] == "0.0800"
    assert text.count("| bias baseline") == 1


def test_a_cf_model_alone_is_no_baseline_of_itself(tmp_path):
    (tmp_path / "sweep.yaml").write_text(
        SWEEP.replace("fusion: [linear, meta]", "cf: [mf, din]")
        .replace("[dataset=synthetic]", "[dataset=synthetic, method=cf_only]")
        .replace("[fusion]", "[cf]")
        .replace("fusion: linear", ""),
        encoding="utf-8",
    )
    for cf in ("mf", "din"):
        make_run(tmp_path / "o" / cf, "method=cf_only", f"cf={cf}", metrics={"cf/test/ctr/auc": len(cf) / 10})
    text = render_table(tmp_path, tmp_path / "o").read_text(encoding="utf-8")
    assert "CF model" not in text
    assert text.count("| bias baseline") == 1


def test_a_row_of_fewer_tasks_shares_the_baselines_of_the_others(folder, tmp_path):
    make_run(tmp_path / "o" / "m", "fusion=meta", metrics={"cf/test/rating/rmse": 1.1})
    make_run(tmp_path / "o" / "l", "fusion=linear")
    text = render_table(folder, tmp_path / "o").read_text(encoding="utf-8")
    assert text.count("| CF model") == 1
    assert "–" not in cells(text, "CF model")


def test_rows_with_one_baseline_have_one_line_for_it(folder, tmp_path):
    """Named by what they have in common, else by the rows."""
    grid = "grid: {fusion: [linear, meta], lora.rank: [4, 8], seed: [0]}"
    sweep = SWEEP.replace(SWEEP.splitlines()[4], grid).replace("rows: [fusion]", "rows: [fusion, lora.rank]")
    (folder / "sweep.yaml").write_text(sweep.replace("control: {fusion: linear}", ""), encoding="utf-8")
    for fusion in ("linear", "meta"):
        for rank in (4, 8):
            odd = (fusion, rank) == ("meta", 8)
            own = {"text/test/ctr/auc": rank / 100, "cf/test/ctr/auc": 0.9 if odd else 0.8}
            own["cf/test/ctr/log_loss"] = rank + len(fusion)  # no column, so no reason for a line
            make_run(tmp_path / "o" / f"{fusion}{rank}", f"fusion={fusion}", f"lora.rank={rank}", metrics=own)
    text = render_table(folder, tmp_path / "o").read_text(encoding="utf-8")
    assert cells(text, "text-only (lora.rank=4)")[1] == "0.0400"
    assert cells(text, "text-only (lora.rank=8)")[1] == "0.0800"
    three = "fusion=linear, lora.rank=4; fusion=linear, lora.rank=8; fusion=meta, lora.rank=4"
    assert cells(text, f"CF model ({three})")[1] == "<ins>0.8000</ins>"
    assert cells(text, "CF model (fusion=meta, lora.rank=8)")[1] == "**0.9000**"
    assert text.count("| text-only") == text.count("| CF model") == 2


def test_a_swept_key_that_is_no_row_is_not_averaged_over(folder, tmp_path):
    grid = "grid: {fusion: [linear, meta], lora.rank: [4, 8], seed: [0, 1]}"
    (folder / "sweep.yaml").write_text(SWEEP.replace(SWEEP.splitlines()[4], grid), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"lora.rank: is swept but is no row"):
        render_table(folder, tmp_path / "outputs")


def test_a_run_scored_otherwise_than_its_config_says_does_not_count(folder, tmp_path, capsys):
    """`ckf evaluate run=… evaluate.max_examples=5` must not replace the full numbers that are kept."""
    fill(tmp_path / "outputs")
    text = render_table(folder, tmp_path / "outputs").read_text(encoding="utf-8")
    path = tmp_path / "outputs" / "m0" / "metrics.json"
    for changed in ({"test/ctr/auc": 0.99, "evaluate/max_examples": 5}, {"val/ctr/auc": 0.99}):
        path.write_text(json.dumps(changed), encoding="utf-8")
        assert render_table(folder, tmp_path / "outputs").read_text(encoding="utf-8") == text
        assert "m0: scored with other settings than its config's" in capsys.readouterr().err


def test_results_of_two_versions_of_the_data_are_not_mixed(folder, tmp_path):
    make_run(tmp_path / "outputs" / "old", "fusion=meta", data="old")
    make_run(tmp_path / "outputs" / "new", "fusion=meta", "seed=1", data="new")
    with pytest.raises(ArtifactError, match=r"differ in dataset artifact"):
        render_table(folder, tmp_path / "outputs")


def test_runs_of_another_version_do_not_stand_in_the_way(folder, tmp_path, capsys):
    fill(tmp_path / "outputs")
    alien = make_run(tmp_path / "outputs" / "alien")
    (alien / "config.yaml").write_text("nothing: here\n", encoding="utf-8")
    render_table(folder, tmp_path / "outputs")
    assert "alien" in capsys.readouterr().err


def test_nothing_finished_is_said(folder, tmp_path):
    with pytest.raises(ArtifactError, match="no run of its sweep is finished"):
        render_table(folder, tmp_path / "outputs")
    assert not (folder / "results.csv").exists()


def test_rows_whose_cf_training_data_are_unknown_are_named_under_the_table(folder, tmp_path):
    known = {"test/ctr/auc": 0.6}
    make_run(tmp_path / "o" / "m", "fusion=meta", metrics={**known, "evaluate/cf_training_data_unknown": 1})
    make_run(tmp_path / "o" / "l", "fusion=linear", metrics=known)
    text = render_table(folder, tmp_path / "o").read_text(encoding="utf-8")
    assert "CF training data unknown: leakage cannot be excluded: fusion=meta." in text
    latex = (tmp_path / "o/tables/t.tex").read_text(encoding="utf-8")
    assert "leakage cannot be excluded: fusion=meta." in latex


def test_a_row_is_called_as_the_sweep_calls_it(tmp_path):
    """A text-only baseline and `method=zero_shot` may be one run; its folder has the label of who came first."""
    folder = tmp_path / "t"
    folder.mkdir()
    sweep = "title: T\nquestion: Q?\ngrid: {method: [zero_shot], seed: [0]}\nrows: [method]\nmetrics: [test/ctr/auc]\n"
    (folder / "sweep.yaml").write_text(sweep, encoding="utf-8")
    run = make_run(tmp_path / "o/z", "method=zero_shot")
    config = (run / "config.yaml").read_text(encoding="utf-8")
    assert "  name: zero_shot" in config
    (run / "config.yaml").write_text(config.replace("  name: zero_shot", "  name: text_only"), encoding="utf-8")
    text = render_table(folder, tmp_path / "o").read_text(encoding="utf-8")
    assert cells(text, "method=zero_shot")[1] == "0.6123"
