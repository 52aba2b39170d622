"""Fusion diagnostics in a report: the table, the share of the gradient, and models that ignore their slots."""

from __future__ import annotations

import pytest

from ckf.report.build import report
from tests.unit.report.runs import make_run, tables

HEALTHY = {
    "diagnostics/n": 800.0,
    "diagnostics/change_zeroed": 0.3,
    "diagnostics/change_shuffled": 0.4,
    "diagnostics/change_swapped": 0.2,
    "diagnostics/ctr/change_swapped": 0.25,
    "diagnostics/ctr/auc": 0.75,
    "diagnostics/ctr/auc_swapped": 0.55,
    "diagnostics/ctr/loss": 0.6,
    "diagnostics/topk/loss": 2.2,
    "diagnostics/ctr/loss_rise_shuffled": 0.06,
    "diagnostics/ctr/loss_rise_shuffled_low": 0.02,
    "diagnostics/ctr/loss_rise_shuffled_high": 0.1,
    "diagnostics/topk/loss_rise_shuffled": 0.001,
    "diagnostics/topk/loss_rise_shuffled_low": -0.02,
    "diagnostics/topk/loss_rise_shuffled_high": 0.03,
    "diagnostics/grad_share_fusion": 0.4,
    "diagnostics/grad_share_adapters": 0.6,
}
CODES = ("fusion=binary",)


def said(folder, *overrides, **changes) -> str:
    run = make_run(folder / "run", *overrides, metrics={**HEALTHY, **changes})
    return (report([run], folder) / "report.md").read_text(encoding="utf-8")


def test_the_table_and_the_gradient_shares(tmp_path):
    text = said(tmp_path)
    table = tables(text)["fusion diagnostics (800 val examples)"]
    assert table["another user's"]["ctr"] == "0.2500"
    assert table["another user's"]["ctr AUC"] == "0.5500"
    assert table["slots zeroed"]["all"] == "0.3000"
    assert table["as it is"]["ctr AUC"] == "0.7500"
    assert "gradient norm, share: adapters 0.60, fusion 0.40" in text
    assert "ignores" not in text
    assert "no gradient" not in text


@pytest.mark.parametrize(("overrides", "what"), [((), "slots"), (CODES, "codes")])
def test_a_model_whose_answers_are_no_worse_without_its_slots_is_called_out(tmp_path, overrides, what):
    """However far the answers move: a model trained on shuffled vectors moves them as well."""
    text = said(tmp_path, *overrides, **{"diagnostics/ctr/loss_rise_shuffled_low": -0.002})
    conclusion = text.split("## Conclusions")[1].split("##")[0]
    assert f"This model ignores its {what}: with vectors shuffled its loss is hardly higher in any task" in conclusion
    assert "(ctr +0.0600 [-0.0020, +0.1000], topk +0.0010 [-0.0200, +0.0300])" in conclusion


def test_few_users_are_no_ground_to_call_a_model_out(tmp_path):
    few = {f"diagnostics/{task}/loss_rise_shuffled_{end}": None for task in ("ctr", "topk") for end in ("low", "high")}
    text = said(tmp_path, **few, **{"diagnostics/ctr/users": 1, "diagnostics/topk/users": 19})
    assert "Whether the slots are used cannot be said from so few val users (ctr 1, topk 19; 20 needed)." in text
    assert "ignores" not in text
    assert "no use of it" not in text


def test_the_control_is_called_out_and_ckf_plus_is_not(tmp_path):
    """Rises as they were measured of `ckf_plus` and its control with shuffled vectors (seed 0, 150 steps)."""
    control = {"ctr": (0.69, -0.0002, -0.0044, 0.0043), "topk": (2.3, 0.0055, 0.0017, 0.0102)}
    plus = {"ctr": (0.6, 0.6239, 0.4477, 0.8001), "topk": (2.0, 0.6851, 0.5241, 0.8477)}
    for name, measured in (("control", control), ("plus", plus)):
        changes = {
            f"diagnostics/{task}/loss{key}": value
            for task, values in measured.items()
            for key, value in zip(("", *(f"_rise_shuffled{end}" for end in ("", "_low", "_high"))), values, strict=True)
        }
        assert ("ignores its slots" in said(tmp_path / name, **changes)) == (name == "control")


def test_one_that_reads_them_in_some_tasks_says_in_which(tmp_path):
    text = said(tmp_path)
    assert "The slots are used in ctr; no use of it can be measured in topk." in text
    assert "ignores its slots" not in text


def test_a_soft_prompt_is_judged_by_zeros(tmp_path):
    key = "diagnostics/ctr/loss_rise_"
    none = {
        f"diagnostics/{task}/loss_rise_shuffled{end}": None for task in ("ctr", "topk") for end in ("", "_low", "_high")
    }
    zeros = {f"{key}zeroed": 0.001, f"{key}zeroed_low": -0.001, f"{key}zeroed_high": 0.003}
    assert "ignores its slots" in said(tmp_path / "a", "fusion=soft_prompt", **none, **zeros)
    assert "ignores" not in said(tmp_path / "b", "fusion=soft_prompt", **none)


def test_a_fusion_without_gradient_is_called_out(tmp_path):
    assert "The fusion got no gradient" in said(tmp_path / "a", **{"diagnostics/grad_share_fusion": 0.0})
    assert "no gradient" not in said(tmp_path / "b", *CODES, **{"diagnostics/grad_share_fusion": None})
