"""What a report says of the CF model itself: below counting, equal vectors, figures that it cannot have."""

from __future__ import annotations

import pytest

from ckf.report.build import report
from tests.unit.report.runs import make_run

VECTORS = ("cf=pretrained", "cf.users=u.npy", "cf.items=i.npy")
EXTERNAL = "The CF model (pretrained)"


def said(folder, *overrides, **metrics) -> dict[str, str]:
    run = make_run(folder / "run", *overrides, metrics=metrics)
    text = (report([run], folder) / "report.md").read_text(encoding="utf-8")
    return dict(part.split("\n", 1) for part in text.split("\n## "))


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        ({"cf/test/ctr/auc": 0.6}, "is below the bias baseline in ctr AUC (0.6000 against 0.6600): counting knows"),
        ({"cf/test/rating/rmse": 1.3, "bias/test/rating/rmse": 1.1}, "in rating RMSE (1.3000 against 1.1000)"),
        ({"cf/test/topk/hr@1[c10]": 0.1, "bias/test/topk/hr@1[c10]": 0.2}, "topk HR@1 [c10] (0.1000 against 0.2000)"),
    ],
)  # fmt: skip
def test_a_cf_model_below_counting_is_named_in_the_conclusions_of_a_fused_run(tmp_path, metrics, line):
    assert line in said(tmp_path, **metrics)["Conclusions"]
    assert "is below the bias baseline" not in said(tmp_path / "none", "fusion=none", **metrics).get("Conclusions", "")


def test_a_cf_model_above_counting_is_not(tmp_path):
    assert "below the bias baseline" not in said(tmp_path)["Conclusions"]


@pytest.mark.parametrize("kind", ["user", "item"])
def test_equal_vectors_are_a_conclusion(tmp_path, kind):
    found = said(tmp_path, **{f"diagnostics/equal_vectors_{kind}s": 1.0})["Conclusions"]
    assert f"All {kind} vectors of the CF model are equal: no slot can tell one {kind} from another." in found
    assert "are equal" not in said(tmp_path / "b", **{f"diagnostics/equal_vectors_{kind}s": 0.0})["Conclusions"]


@pytest.mark.parametrize(
    ("scores", "line"),
    [
        ("dot", "gives a dot product (cf.scores=dot), an order and no probability: it has AUC and UAUC, but neither"),
        ("dot", "has no figures for rating, explain: a dot product is on no scale of ratings."),
        ("sigmoid", "has no figures for rating, explain: a dot product is on no scale of ratings."),
        ("none", "has no figures for ctr, rating, topk, explain: cf.scores=none: it predicts nothing."),
    ],
)
def test_figures_that_given_vectors_cannot_have_are_explained(tmp_path, scores, line):
    caveats = said(tmp_path, *VECTORS, f"cf.scores={scores}")["Caveats"]
    assert f"{EXTERNAL} {line}" in caveats
    assert ("gives a dot product" in caveats) == (scores == "dot")


def test_a_model_that_predicts_everything_needs_no_caveat(tmp_path):
    assert "has no figures" not in said(tmp_path).get("Caveats", "")


def test_figures_against_drawn_items_say_so(tmp_path):
    overrides = ("dataset=implicit", "dataset.root=x", "tasks.negatives=popularity")
    metrics = {"test/ctr_sampled/auc": 0.7, "test/ctr_sampled/auc@warm_seen": 0.8, "test/ctr_sampled/n@warm_seen": 9}
    found = said(tmp_path, *overrides, **metrics)
    assert "ctr_sampled: every No is an item drawn by popularity (tasks.negatives), 1 for each like" in found["Caveats"]
    assert any("ctr_sampled AUC, warm and cold (test)" in title for title in found)
