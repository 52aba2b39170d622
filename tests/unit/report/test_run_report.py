"""The report of one run says what metrics.json says, losses included, and needs nothing but its folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ckf.core.errors import ArtifactError
from ckf.report.build import report
from tests.unit.report.runs import METRICS, cells, make_run, tables


def text_of(run: Path) -> str:
    report([run], run)
    return (run / "report.md").read_text(encoding="utf-8")


def test_the_table_shows_the_metrics(tmp_path):
    text = text_of(make_run(tmp_path / "run"))
    assert cells(text, "this model")[1:] == ["0.6123", "0.5800", "–", "–", "1000", "77"]
    assert cells(text, "text-only")[1] == "0.5500"
    assert cells(text, "CF model (mf_plus)")[1] == "0.7000"
    assert cells(text, "bias baseline")[1] == "0.6600"
    assert cells(text, "oracle: planted truth")[1] == "0.8900"
    assert cells(text, "oracle: best reader of text")[1] == "0.7500"
    assert cells(text, "oracle: best counting")[1] == "0.6800"
    assert cells(text, "warm (user and item in train)")[1] == "0.6500"
    assert "published" not in text


COLUMNS = {
    "ctr": {
        "AUC": "auc",
        "UAUC": "uauc",
        "log-loss": "logloss",
        "ECE": "ece",
        "rows": "n",
        "users with both classes": "uauc_users",
    },
    "rating": {"RMSE": "rmse", "MAE": "mae", "accuracy": "accuracy", "rows": "n"},
    "explain": {"RMSE": "rmse", "MAE": "mae", "accuracy": "accuracy", "rows": "n"},
    "topk": {
        **{f"{name.upper()} [c10]": f"{name}[c10]" for name in ("hr@1", "hr@3", "hr@5", "ndcg@10", "mrr")},
        "lists": "n",
    },
}
ROWS = {
    "": "this model (ckf, fusion meta)",
    "text/": "text-only (trained apart, same budget)",
    "cf/": "CF model (mf_plus)",
    "bias/": "bias baseline (counting)",
}


def test_every_figure_of_every_task_and_source_is_shown(tmp_path):
    counts = {"n", "uauc_users"}
    keys = [(s, t, c, m) for s in ROWS for t, columns in COLUMNS.items() for c, m in columns.items()]
    values = {
        f"{source}test/{task}/{metric}": 1 + i if metric in counts else (i + 1) / 1000
        for i, (source, task, _, metric) in enumerate(keys)
    }
    found = tables(text_of(make_run(tmp_path / "run", metrics=values)))
    for source, task, column, metric in keys:
        value = values[f"{source}test/{task}/{metric}"]
        shown = str(value) if metric in counts else f"{value:.4f}"
        assert found[f"{task} (test)"][ROWS[source]][column] == shown, (source, task, column)


def test_counts_are_whole_and_figures_have_four_decimals_whatever_their_value(tmp_path):
    values = {"test/ctr/n": 1, "test/ctr/uauc_users": 0, "test/rating/rmse": 2.0, "test/rating/mae": float("nan")}
    found = tables(text_of(make_run(tmp_path / "run", metrics=values)))
    ctr, rating = (next(iter(found[f"{task} (test)"].values())) for task in ("ctr", "rating"))
    assert (ctr["rows"], ctr["users with both classes"], rating["RMSE"], rating["MAE"]) == ("1", "0", "2.0000", "–")


@pytest.mark.parametrize(
    ("diff", "low", "high", "p", "said"),
    [
        (0.0623, 0.04, 0.08, 0.001, "+0.0623 [+0.0400, +0.0800], p = 0.001 (95% paired bootstrap over users): better"),
        (-0.05, -0.08, -0.02, 0.002, "-0.0500 [-0.0800, -0.0200], p = 0.002 (95% paired bootstrap over users): worse"),
        (0.01, -0.01, 0.03, 0.3, "[-0.0100, +0.0300], p = 0.3 (95% paired bootstrap over users): no clear difference"),
        (0.0, 0.0, 0.0, 1.0, "+0.0000 [+0.0000, +0.0000], p = 1: both order the examples alike"),
        (0.01, None, None, None, "+0.0100; without an interval nothing follows"),
    ],
)
def test_a_verdict_says_which_way_and_how_surely(tmp_path, diff, low, high, p, said):
    key = "test/ctr/auc_minus_text"
    values = {key: diff, f"{key}_low": low, f"{key}_high": high, f"{key}_p": p}
    text = text_of(make_run(tmp_path / "run", metrics=values))
    assert "- ckf minus text-only in ctr AUC: " in text
    assert said in text


def test_few_users_are_the_reason_that_nothing_is_concluded(tmp_path):
    """What is left of the metrics of a split with one user: differences without interval and test."""
    without = {f"test/ctr/auc_minus_text_{end}": None for end in ("low", "high", "p")}
    values = {**without, "test/ctr/auc_units": 1, "test/ctr/auc_minus_text_units": 1, "test/rating/rmse_units": 19}
    values |= {"bias/test/rating/rmse": 0.9, "test/topk/hr@1[c10]_units": 20, "bias/test/topk/hr@1[c10]": 0.9}
    text = text_of(make_run(tmp_path / "run", metrics=values))
    said = text.split("## Conclusions")[1].split("##")[0]
    assert "ctr AUC rests on 1 users (the fewer of those with a Yes and those with a No), and 20 are needed: " in said
    assert "rating RMSE rests on 19 users, and 20 are needed: no interval, no test, no conclusion." in said
    assert "minus text-only" not in said
    assert "does not beat counting (the bias baseline) in topk HR@1 [c10]." in said, "20 users are enough"
    assert "in ctr" not in said
    assert "in rating" not in said
    (row,) = tables(text)["against the baselines, p Holm-corrected (test)"].values()
    assert row == {"difference": "+0.0623", "95%": "–", "p": "–", "": "not tested: 1 users, 20 needed"}


def test_an_auc_of_one_class_is_the_reason_that_there_is_none(tmp_path):
    gone = {key: None for key in METRICS if "/auc" in key and "@" not in key}
    text = text_of(make_run(tmp_path / "run", metrics={**gone, "test/ctr/auc_units": 0}))
    assert "- ctr AUC does not exist where all rows are of one class: no interval, no test, no conclusion." in text


def test_a_model_that_does_not_beat_counting_says_so_for_each_task(tmp_path):
    losing = text_of(make_run(tmp_path / "a"))
    assert "This model does not beat counting (the bias baseline) in ctr AUC." in losing
    tied = {"test/ctr/auc": 0.67, "bias/test/rating/rmse": 1.2, "bias/test/topk/hr@1[c10]": 0.2}
    assert "does not beat counting (the bias baseline) in rating RMSE." in text_of(
        make_run(tmp_path / "tied", metrics=tied)
    )
    winning = {"test/ctr/auc": 0.67, "bias/test/rating/rmse": 1.3}
    assert "does not beat counting" not in text_of(make_run(tmp_path / "b", metrics=winning))


def test_the_tables_are_of_the_splits_that_were_scored(tmp_path):
    """`ckf evaluate run=… evaluate.splits=[val]` leaves the run's config as it was."""
    scored = dict.fromkeys(METRICS) | {"val/ctr/auc": 0.7, "bias/val/ctr/auc": 0.8}
    text = text_of(make_run(tmp_path / "run", metrics=scored))
    assert tables(text)["ctr (val)"]["this model (ckf, fusion meta)"]["AUC"] == "0.7000"
    assert "does not beat counting (the bias baseline) in ctr AUC on val." in text


def test_stamps(tmp_path):
    values = {"evaluate/max_examples": 500, "test/ctr/unusable": 3, "test/history_cut": 2, "bias/test/ctr/unusable": 0}
    text = text_of(make_run(tmp_path / "run", metrics=values))
    assert "at most 500 examples" in text
    assert "test/ctr/unusable: 3 unusable answers, scored as the worst" in text
    assert "2 prompts lost history" in text
    assert "bias/test/ctr/unusable" not in text


def test_what_the_data_warn_of_is_a_caveat(tmp_path):
    run = make_run(tmp_path / "run")
    metadata = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(metadata | {"data_warnings": ["1 of 9 items (11.1%) have a title"]}))
    caveats = text_of(run).split("## Caveats")[1].split("##")[0]
    assert "- Data: 1 of 9 items (11.1%) have a title.\n" in caveats


def test_how_it_was_made(tmp_path):
    text = text_of(make_run(tmp_path / "run"))
    for line in ("fusion=meta", "seconds by stage: train 3.5", "git commit: 0123", "dataset abc"):
        assert line in text


def test_published_rows_stand_beside_their_own_dataset(tmp_path):
    text = text_of(make_run(tmp_path / "run", "dataset=collm_ml1m", "dataset.root=x"))
    assert cells(text, "BinLLM")[1:] == ["0.7425", "0.6956", "BinLLM, Table 2"]
    assert cells(text, "SAILRec")[1:3] == ["0.7571", "–"]
    assert "published on the same split (not run here)" in text


def test_html_is_one_file_with_the_same_tables_and_curves_and_escapes(tmp_path):
    run = make_run(tmp_path / "run", "method.name='<script>alert(1)</script>'")
    text, page = text_of(run), (run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?\s*(?:https?:)?//""", page)
    assert "@import" not in page
    assert "<svg" in page
    for title, rows in tables(text).items():
        assert f"<h2>{title}</h2>" in page
        for figures in rows.values():
            assert all(f"<td>{figure}</td>" in page for figure in figures.values())


def test_a_bar_in_a_name_does_not_break_the_table(tmp_path):
    text = text_of(make_run(tmp_path / "run", "method.name='a|b'"))
    row = next(line for line in text.splitlines() if line.startswith("| this model"))
    assert r"a\|b" in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 8


@pytest.mark.parametrize("lines", ["", '{"step": 1, "train/other": 2.0}\n'])
def test_a_run_without_curves_has_a_page(tmp_path, lines):
    run = make_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text(lines, encoding="utf-8")
    text_of(run)
    assert "<svg" not in (run / "report.html").read_text(encoding="utf-8")


def test_what_is_no_finished_run_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="not a run folder"):
        report([tmp_path], tmp_path / "out")
    run = make_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "tra', encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl: line 2 is not JSON"):
        report([run], tmp_path / "out")
    (run / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"run\.json: names no dataset artifact"):
        report([run], tmp_path / "out")
    (run / "metrics.json").unlink()
    with pytest.raises(ArtifactError, match="not finished"):
        report([run], tmp_path / "out")
    with pytest.raises(ArtifactError, match="no run folder matches"):
        report([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_reports_need_no_torch(tmp_path):
    run = make_run(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; import ckf.report.sweep_table; from ckf.report.build import report;"
        "report([Path(sys.argv[1])], Path(sys.argv[1]));"
        "heavy = ('torch', 'transformers', 'pytorch_lightning', 'lightning', 'peft', 'wandb');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_report_of_a_report_is_the_same(tmp_path):
    run = make_run(tmp_path / "run")
    assert text_of(run) == text_of(run)
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8")) == METRICS
