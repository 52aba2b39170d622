"""What a report says of fusion health: the table, the share of the gradient, and models that ignore their slots."""

from __future__ import annotations

import pytest

from ckf.report.build import report
from tests.unit.report.runs import make_run, tables

HEALTHY = {
    "health/n": 800.0,
    "health/change_zeroed": 0.3,
    "health/change_shuffled": 0.4,
    "health/change_swapped": 0.2,
    "health/ctr/change_swapped": 0.25,
    "health/ctr/auc": 0.75,
    "health/ctr/auc_swapped": 0.55,
    "health/grad_share_fusion": 0.4,
    "health/grad_share_adapters": 0.6,
}
CODES = ("fusion=binary",)


def said(folder, *overrides, **changes) -> str:
    run = make_run(folder / "run", *overrides, metrics={**HEALTHY, **changes})
    return (report([run], folder) / "report.md").read_text(encoding="utf-8")


def test_the_table_and_the_gradient_shares(tmp_path):
    text = said(tmp_path)
    table = tables(text)["fusion health (800 val examples)"]
    assert table["another user's"]["ctr"] == "0.2500"
    assert table["another user's"]["ctr AUC"] == "0.5500"
    assert table["slots zeroed"]["all"] == "0.3000"
    assert table["as it is"]["ctr AUC"] == "0.7500"
    assert "gradient norm, share: adapters 0.60, fusion 0.40" in text
    assert "ignores" not in text
    assert "no gradient" not in text


@pytest.mark.parametrize(("overrides", "what"), [((), "slots"), (CODES, "codes")])
def test_a_model_that_ignores_its_slots_is_called_out(tmp_path, overrides, what):
    text = said(tmp_path, *overrides, **{"health/change_shuffled": 0.004, "health/change_swapped": 0.002})
    verdict = text.split("## Verdict")[1].split("##")[0]
    assert f"This model ignores its {what}: its answers hardly change when they are spoiled" in verdict
    assert "vectors shuffled 0.0040, another user's 0.0020" in verdict


def test_one_that_reads_the_items_alone_is_not(tmp_path):
    assert "ignores" not in said(tmp_path, **{"health/change_swapped": 0.0})


def test_a_soft_prompt_is_judged_by_zeros(tmp_path):
    none = {"health/change_shuffled": None, "health/change_swapped": None}
    assert "ignores its slots" in said(tmp_path / "a", "fusion=soft_prompt", **none, **{"health/change_zeroed": 0.001})
    assert "ignores" not in said(tmp_path / "b", "fusion=soft_prompt", **none)


def test_a_fusion_without_gradient_is_called_out(tmp_path):
    assert "The fusion got no gradient" in said(tmp_path / "a", **{"health/grad_share_fusion": 0.0})
    assert "no gradient" not in said(tmp_path / "b", *CODES, **{"health/grad_share_fusion": None})
