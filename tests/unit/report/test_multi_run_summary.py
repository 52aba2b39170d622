"""Several runs in one report: mean ± sd over seeds, and never two protocols in one column."""

from __future__ import annotations

import pytest

from ckf.core.errors import ArtifactError
from ckf.report.build import report
from ckf.report.table import Number
from tests.unit.report.runs import make_run, tables


def text_of(runs, out):
    report(runs, out)
    return (out / "report.md").read_text(encoding="utf-8")


def test_mean_and_sd_by_hand():
    assert str(Number.over([0.5, 0.7])) == "0.6000 ± 0.1414"
    assert str(Number.over([0.5])) == "0.5000"
    assert str(Number.over([None, None])) == "–"
    assert str(Number.over([1.0, 2.0, None])) == "1.5000 ± 0.7071 (2 of 3)"
    assert str(Number.over([1.0, None])) == "1.0000 (1 of 2)"


def test_several_runs_give_mean_and_sd_over_seeds(tmp_path):
    runs = [
        make_run(tmp_path / f"m{seed}", f"seed={seed}", metrics={"test/ctr/auc": 0.6 + seed / 100}) for seed in range(3)
    ]
    runs.append(make_run(tmp_path / "linear", "fusion=linear", metrics={"test/ctr/auc": 0.5}))
    rows = tables(text_of(runs, tmp_path / "out"))["runs (mean ± sd over seeds)"]
    meta = next(cells for name, cells in rows.items() if "fusion.name=meta" in name)
    linear = next(cells for name, cells in rows.items() if "fusion.name=linear" in name)
    assert (meta["ctr AUC"], meta["rating RMSE"], meta["seeds"]) == ("0.6100 ± 0.0100", "1.2000 ± 0.0000", "3")
    assert (linear["ctr AUC"], linear["topk HR@1 [c10]"], linear["seeds"]) == ("0.5000", "0.2500", "1")
    assert linear["explain RMSE"] == "–"


def test_a_row_is_named_by_what_can_change_a_result(tmp_path):
    """Not by where files lie or how many workers read them."""
    runs = [
        make_run(tmp_path / "a", "dataset=collm_ml1m", "dataset.root=here", "seed=1"),
        make_run(tmp_path / "b", "dataset=collm_ml1m", "dataset.root=there", "lora.rank=4", "name=other"),
    ]
    text = text_of(runs, tmp_path / "out")
    assert "lora.rank=4" in text
    assert "here" not in text
    assert "name=" not in text


@pytest.mark.parametrize(
    ("overrides", "options", "said"),
    [
        (["tasks.candidates=20"], {}, r"tasks.candidates \(20 and 10\)"),
        (["tasks.negatives_seed=1"], {}, r"tasks.negatives_seed \(1 and 0\)"),
        (["dataset=collm_ml1m", "dataset.root=x"], {}, r"dataset \(collm_ml1m and synthetic\)"),
        ([], {"data": "other"}, r"dataset artifact \(other and abc\)"),
        (["evaluate.max_examples=5"], {"metrics": {"evaluate/max_examples": 5}}, r"max_examples \(5 and None\)"),
        ([], {"metrics": {"evaluate/max_examples": 5}}, r"max_examples \(5 and None\)"),
    ],
    ids=["candidates", "negatives", "dataset", "data", "subset", "subset set on `ckf evaluate` alone"],
)
def test_different_protocols_do_not_share_a_column(tmp_path, overrides, options, said):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", *overrides, "seed=1", **options)]
    with pytest.raises(ArtifactError, match=said) as refused:
        report(runs, tmp_path / "out")
    assert "\n" not in str(refused.value)


def test_a_run_and_its_copy_are_not_two_seeds(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b")]
    with pytest.raises(ArtifactError, match=r"same config and seed"):
        report(runs, tmp_path / "out")


def test_curves_of_several_runs_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", "seed=1")]
    report(runs, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "legend" in page
