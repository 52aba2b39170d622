"""A table of experiments/: from run folders into results/, and from there alone into RESULTS.md."""

from __future__ import annotations

import json

import pytest

from ckf.core.errors import ArtifactError, ConfigError
from ckf.report.sweep_table import render_table
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
    assert len(list((folder / "results").glob("*.json"))) == 3
    figure = (folder / "RESULTS.svg").read_text(encoding="utf-8")
    again = render_table(folder, tmp_path / "gone").read_text(encoding="utf-8")
    assert again == text
    assert (folder / "RESULTS.svg").read_text(encoding="utf-8") == figure
    assert figure.startswith("<svg")
    lines = (folder / "RESULTS.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "fusion,ctr/auc,ctr/auc sd,rating/rmse,rating/rmse sd,seeds"
    assert "fusion=meta,0.7500,0.0707,1.2000,0.0000,2" in lines
    latex = (folder / "RESULTS.tex").read_text(encoding="utf-8")
    assert r"\textbf{0.7500 $\pm$ 0.0707} & \underline{1.2000 $\pm$ 0.0000} & 2 \\" in latex


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
    assert "better" in (folder / "RESULTS.csv").read_text(encoding="utf-8")


def test_a_result_says_where_it_comes_from(folder, tmp_path):
    fill(tmp_path / "outputs")
    render_table(folder, tmp_path / "outputs")
    (path,) = (folder / "results").glob("*-seed1.json")
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert (kept["row"], kept["seed"], kept["git"]) == ({"fusion": "meta"}, 1, "0123")
    assert kept["command"] == "ckf dataset=synthetic fusion=meta seed=1"
    assert kept["metrics"]["test/ctr/auc"] == pytest.approx(0.8)
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_a_bias_baseline_that_wins_is_the_bold_one(folder, tmp_path):
    make_run(tmp_path / "outputs" / "a", "fusion=meta", metrics={"cf/test/ctr/auc": 0.5})
    text = render_table(folder, tmp_path / "outputs").read_text(encoding="utf-8")
    assert cells(text, "fusion=meta")[1] == "<ins>0.6123</ins>"
    assert cells(text, "bias baseline")[1] == "**0.6600**"


def test_a_baseline_that_depends_on_the_row_has_a_row_for_each(tmp_path):
    """The text-only twin of rank 4 is not that of rank 8; the bias baseline is the same for both."""
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
    """`ckf evaluate run=… evaluate.max_examples=5` must not replace the full numbers in results/."""
    fill(tmp_path / "outputs")
    text = render_table(folder, tmp_path / "outputs").read_text(encoding="utf-8")
    path = tmp_path / "outputs" / "m0" / "metrics.json"
    for changed in ({"test/ctr/auc": 0.99, "evaluate/max_examples": 5}, {"val/ctr/auc": 0.99}):
        path.write_text(json.dumps(changed), encoding="utf-8")
        assert render_table(folder, tmp_path / "outputs").read_text(encoding="utf-8") == text
        assert "m0: scored otherwise than its config says" in capsys.readouterr().err


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
    assert not (folder / "results").exists()


def test_rows_whose_cf_training_data_are_unknown_are_named_under_the_table(folder, tmp_path):
    known = {"test/ctr/auc": 0.6}
    make_run(tmp_path / "o" / "m", "fusion=meta", metrics={**known, "evaluate/cf_training_data_unknown": 1})
    make_run(tmp_path / "o" / "l", "fusion=linear", metrics=known)
    text = render_table(folder, tmp_path / "o").read_text(encoding="utf-8")
    assert "CF training data unknown: leakage cannot be excluded: fusion=meta." in text
    assert "leakage cannot be excluded: fusion=meta." in (folder / "RESULTS.tex").read_text(encoding="utf-8")


def test_a_row_is_called_as_the_sweep_calls_it(tmp_path):
    """A text-only companion and `method=zero_shot` may be one run; its folder has the label of who came first."""
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
