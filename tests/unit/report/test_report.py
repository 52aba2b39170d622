"""Reports say what metrics.json says, losses included, and need nothing but run folders."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ckf.config.compose import compose, to_yaml
from ckf.errors import ArtifactError
from ckf.report.build import mean_sd, report
from ckf.report.tables import render_table

METRICS = {
    "test/ctr/auc": 0.61234,
    "test/ctr/uauc": 0.58,
    "test/ctr/n": 1000,
    "test/ctr/uauc_users": 77,
    "test/ctr/auc@warm_seen": 0.65,
    "test/ctr/n@warm_seen": 900,
    "test/rating/rmse": 1.2,
    "test/topk/hr@1[c10]": 0.25,
    "text/test/ctr/auc": 0.55,
    "cf/test/ctr/auc": 0.7,
    "floor/test/ctr/auc": 0.66,
    "known/test/ctr/auc_truth": 0.89,
    "known/test/ctr/auc_text": 0.75,
    "known/test/ctr/auc_counting": 0.68,
    "test/ctr/auc_minus_text": 0.0623,
    "test/ctr/auc_minus_text_low": 0.04,
    "test/ctr/auc_minus_text_high": 0.08,
    "test/ctr/auc_minus_text_p": 0.001,
}


def make_run(folder: Path, *overrides: str, **changes: float) -> Path:
    exp, _ = compose(list(overrides))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(exp), encoding="utf-8")
    card = {
        "artifacts": {"dataset": {"path": "x", "hash": "abc"}},
        "stages": {"train": 3.5},
        "git": "0123",
        "versions": {"ckf": "0.1.0"},
        "machine": {"cores": 2, "python": "3.11.0"},
    }
    (folder / "run.json").write_text(json.dumps(card), encoding="utf-8")
    values = {**METRICS, **{key.replace("__", "/"): value for key, value in changes.items()}}
    (folder / "metrics.json").write_text(json.dumps(values), encoding="utf-8")
    lines = [{"step": step, "train/loss_text": 3.0 - step / 10, "train/weight_text": 1.0} for step in range(5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def cells(markdown: str, start: str) -> list[str]:
    """The cells of the first table row that starts with a text."""
    row = next(line for line in markdown.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_table_shows_the_metrics(tmp_path):
    run = make_run(tmp_path / "run")
    report([run], run)
    text = (run / "report.md").read_text(encoding="utf-8")
    assert cells(text, "this model")[1:] == ["0.6123", "0.5800", "–", "–", "1000", "77"]
    assert cells(text, "text-only")[1] == "0.5500"
    assert cells(text, "CF model (mf)")[1] == "0.7000"
    assert cells(text, "bias floor")[1] == "0.6600"
    assert cells(text, "known: planted truth")[1] == "0.8900"
    assert cells(text, "known: best reader of text")[1] == "0.7500"
    assert cells(text, "known: best counting")[1] == "0.6800"
    assert cells(text, "warm (user and item in train)")[1] == "0.6500"
    assert "published" not in text
    assert "+0.0623 [+0.0400, +0.0800], p = 0.001: better" in text


def test_a_model_that_does_not_beat_counting_says_so(tmp_path):
    losing, winning = make_run(tmp_path / "a"), make_run(tmp_path / "b", test__ctr__auc=0.67)
    for run, said in ((losing, True), (winning, False)):
        report([run], run)
        assert ("does not beat counting" in (run / "report.md").read_text(encoding="utf-8")) is said


def test_stamps(tmp_path):
    run = make_run(tmp_path / "run", evaluate__max_examples=500, test__ctr__unusable=3, test__history_cut=2)
    report([run], run)
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "at most 500 examples" in text
    assert "3 unusable answers, scored as the worst" in text
    assert "2 prompts lost history" in text


def test_published_rows_stand_beside_their_own_dataset(tmp_path):
    run = make_run(tmp_path / "run", "dataset=collm_ml1m", "dataset.root=x")
    report([run], run)
    text = (run / "report.md").read_text(encoding="utf-8")
    assert cells(text, "BinLLM")[1:3] == ["0.7425", "0.6956"]
    assert cells(text, "SAILRec")[1:3] == ["0.7571", "–"]
    assert "published on the same split (not run here)" in text


def test_html_is_one_file_with_curves_and_escapes(tmp_path):
    run = make_run(tmp_path / "run", "method.name='<script>alert(1)</script>'")
    report([run], run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"']https?:", page)
    assert "<svg" in page
    assert "0.6123" in page


def test_several_runs_give_mean_and_sd_over_seeds(tmp_path):
    runs = [make_run(tmp_path / f"m{s}", f"seed={s}", test__ctr__auc=0.6 + s / 100) for s in range(3)]
    runs.append(make_run(tmp_path / "linear", "fusion=linear", test__ctr__auc=0.5))
    report(runs, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    meta = next(line for line in text.splitlines() if "0.6100 ± 0.0100" in line)
    assert meta.rstrip("| ").endswith("3")
    assert "fusion.name=meta" in meta
    assert "0.5000" in text
    assert mean_sd([1.0, 2.0, None]) == "1.5000 ± 0.7071"


def test_different_protocols_do_not_share_a_column(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", "tasks.candidates=20")]
    with pytest.raises(ArtifactError, match=r"differ in tasks.candidates \(20 and 10\)"):
        report(runs, tmp_path / "out")


def test_what_is_no_finished_run_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="not a run folder"):
        report([tmp_path], tmp_path / "out")
    run = make_run(tmp_path / "run")
    (run / "metrics.json").unlink()
    with pytest.raises(ArtifactError, match="not finished"):
        report([run], tmp_path / "out")
    with pytest.raises(ArtifactError, match="no run folder matches"):
        report([], tmp_path / "out")


SWEEP = """
title: T
question: Q?
overrides: [dataset=synthetic]
grid: {fusion: [linear, meta], seed: [0, 1]}
rows: [fusion]
metrics: [test/ctr/auc, test/rating/rmse]
"""


def test_a_table_is_rendered_from_runs_and_again_from_its_results(tmp_path):
    folder, outputs = tmp_path / "t", tmp_path / "outputs"
    folder.mkdir()
    (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    for seed in (0, 1):
        make_run(outputs / f"m{seed}", "fusion=meta", f"seed={seed}", test__ctr__auc=0.7 + seed / 10)
    make_run(outputs / "l0", "fusion=linear", test__ctr__auc=0.6, test__rating__rmse=1.0)
    text = render_table(folder, outputs).read_text(encoding="utf-8")
    assert cells(text, "fusion=meta")[1:] == ["**0.7500 ± 0.0707**", "1.2000 ± 0.0000", "2"]
    assert cells(text, "fusion=linear")[1:] == ["0.6000", "**1.0000**", "1 (single seed)"]
    assert cells(text, "bias floor")[1] == "0.6600"
    assert "Not finished: fusion=linear seed=1" in text
    assert len(list((folder / "results").glob("*.json"))) == 3
    again = render_table(folder, tmp_path / "gone").read_text(encoding="utf-8")
    assert again == text


def test_a_kept_result_counts_as_done_unless_forced(tmp_path, monkeypatch, capsys):
    from ckf import sweep

    folder, outputs = tmp_path / "t", tmp_path / "outputs"
    folder.mkdir()
    (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    make_run(outputs / "m0", "fusion=meta")
    render_table(folder, outputs)
    ran: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "run_trial", lambda command, log: ran.append(log.name) or sweep.Outcome("done", 0.0, ""))
    sweep.run_file(folder / "sweep.yaml", [], None, 1)
    assert len(ran) == 3
    assert "fusion=meta seed=0: already done in 0.0 s; kept in" in capsys.readouterr().out
    sweep.run_file(folder / "sweep.yaml", ["force=true"], None, 1)
    assert len(ran) == 7


def test_nothing_finished_is_said(tmp_path):
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    with pytest.raises(ArtifactError, match="no run of its sweep is finished"):
        render_table(tmp_path, tmp_path / "outputs")


def test_reports_need_no_torch():
    code = (
        "import sys, ckf.report.build, ckf.report.tables;"
        "print([m for m in ('torch', 'transformers', 'pytorch_lightning', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
