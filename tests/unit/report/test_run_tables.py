"""Intervals, slices, differences and calibration in a run's report, from what metrics.json and predictions say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ckf.report.build import report
from ckf.report.load_runs import load_run
from ckf.report.run_tables import calibration
from tests.unit.report.runs import METRICS, make_run, tables


def page_of(run):
    report([run], run)
    return (run / "report.md").read_text(encoding="utf-8"), (run / "report.html").read_text(encoding="utf-8")


def test_the_interval_stands_beside_its_figure(tmp_path):
    values = {"test/ctr/auc_low": 0.58, "test/ctr/auc_high": 0.64, "cf/test/ctr/auc_low": 0.6}
    text, _ = page_of(make_run(tmp_path / "run", metrics=values))
    ctr = tables(text)["ctr (test)"]
    assert ctr["this model (ckf, fusion meta)"]["AUC 95%"] == "[0.5800, 0.6400]"
    assert ctr["CF model (mf_plus)"]["AUC 95%"] == "–", "half an interval is none"
    assert ctr["oracle: planted truth"]["AUC 95%"] == "–"
    assert "RMSE 95%" not in next(iter(tables(text)["rating (test)"].values())), "no interval, no column"


def test_quartiles_of_the_headline_metric_with_their_counts(tmp_path):
    values = {}
    for kind in ("users", "items"):
        for quartile in range(1, 5):
            part = f"@{kind}_q{quartile}"
            values |= {f"test/ctr/auc{part}": quartile / 10, f"cf/test/ctr/auc{part}": quartile / 20}
            values |= {f"test/ctr/n{part}": 100 * quartile, f"test/ctr/users{part}": 10 * quartile}
    text, _ = page_of(make_run(tmp_path / "run", metrics=values))
    rows = tables(text)["ctr AUC by user activity and item popularity (test)"]
    assert len(rows) == 8
    assert rows["most popular quarter of items"] == {
        "this model": "0.4000", "text-only": "–", "CF model": "0.2000", "bias": "–", "rows": "400",
        "users with rows": "40",
    }  # fmt: skip
    assert rows["2nd quarter of users"]["this model"] == "0.2000"


def test_coverage_and_popularity_stand_in_the_table_where_they_were_measured(tmp_path):
    values = {"test/topk/coverage@5[c10]": 0.4, "cf/test/topk/popularity_bias@5[c10]": 1.25}
    rows = tables(page_of(make_run(tmp_path / "run", metrics=values))[0])["topk (test)"]
    assert rows["this model (ckf, fusion meta)"]["coverage@5"] == "0.4000"
    assert rows["CF model (mf_plus)"]["popularity bias@5"] == "1.2500"
    assert rows["CF model (mf_plus)"]["coverage@5"] == "–"


def test_positions(tmp_path):
    values = {f"test/topk/hr@1[c10]@position_{place}": place / 10 for place in range(10)}
    values |= {f"test/topk/n@position_{place}": 5 + place for place in range(10)}
    text, _ = page_of(make_run(tmp_path / "run", metrics=values))
    rows = tables(text)["topk HR@1 [c10] by the target's position (test)"]
    assert list(rows) == ["this model", "lists"]
    assert (rows["this model"]["10"], rows["lists"]["10"]) == ("0.900", "14")


@pytest.mark.parametrize(
    ("task", "metric", "difference", "p", "said"),
    [
        ("ctr", "auc", 0.1, 0.01, "better"),
        ("ctr", "auc", -0.1, 0.01, "worse"),
        ("rating", "rmse", 0.1, 0.01, "worse"),
        ("topk", "hr@1[c10]", 0.1, 0.2, "–"),
    ],
)
def test_differences_are_judged_by_the_corrected_p(tmp_path, task, metric, difference, p, said):
    key = f"test/{task}/{metric}_minus_cf"
    values = {key: difference, f"{key}_low": 0.01, f"{key}_high": 0.2, f"{key}_p": 0.001, f"{key}_p_holm": p}
    text, _ = page_of(make_run(tmp_path / "run", metrics=values))
    (row,) = tables(text)["against the baselines, p Holm-corrected (test)"].values()
    assert row == {"difference": f"{difference:+.4f}", "95%": "[+0.0100, +0.2000]", "p": f"{p:g}", "": said}


@pytest.mark.parametrize(("p", "hedged"), [(0.2, True), (0.03, False)])
def test_a_verdict_that_the_correction_takes_back_says_so(tmp_path, p, hedged):
    text, _ = page_of(make_run(tmp_path / "run", metrics={"test/ctr/auc_minus_text_p_holm": p}))
    assert ("better, but not after Holm's correction (p = 0.2)" in text) == hedged
    assert "(95% paired bootstrap over users): better" in text


def test_calibration_is_drawn_from_the_predictions(tmp_path):
    run = make_run(tmp_path / "run")
    _, without = page_of(run)
    assert "<h2>calibration</h2>" not in without
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({"task": "ctr", "example_id": [f"{i}" for i in range(300)], "user": 1, "item": 1, "answer": ""})
    rows["score"] = draw.random(300)
    rows["label"] = (draw.random(300) < rows["score"]).astype(float)
    sources = [rows.assign(source="model"), rows.assign(source="bias", score=5.0)]
    (run / "predictions").mkdir()
    pd.concat(sources).to_parquet(run / "predictions" / "test.parquet")
    curves = calibration(load_run(run), "test")
    assert list(curves) == ["this model"], "logits are no probabilities"
    assert curves["this model"].count.sum() == 300
    assert np.abs(curves["this model"].predicted - curves["this model"].observed).mean() < 0.15
    _, page = page_of(run)
    assert "<h2>calibration</h2>" in page
    assert page.count("<svg") == without.count("<svg") + 1


def test_an_old_run_has_no_new_tables(tmp_path):
    text, _ = page_of(make_run(tmp_path / "run"))
    assert not any("quart" in title or "position" in title or "Holm" in title for title in tables(text))
    assert METRICS["test/ctr/auc"] == 0.61234
