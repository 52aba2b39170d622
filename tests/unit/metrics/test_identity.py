"""A metric's identity and its flat key: one is read from the other, for every kind of key that a run writes."""

from __future__ import annotations

import pytest

from ckf.metrics.identity import MetricIdentity

KEYS = {
    "test/ctr/auc": ("model", "test", "ctr", "auc", "", "", ""),
    "bias/val/rating/rmse": ("bias", "val", "rating", "rmse", "", "", ""),
    "cf/test/topk/ndcg@10[c10]@warm_3": ("cf", "test", "topk", "ndcg@10", "warm_3", "c10", ""),
    "test/topk/hr@1[c10]_low": ("model", "test", "topk", "hr@1", "", "c10", "low"),
    "test/topk/n[full]": ("model", "test", "topk", "n", "", "full", ""),
    "test/ctr/auc_minus_text": ("model", "test", "ctr", "auc", "", "", "minus_text"),
    "test/topk/hr@1[c10]_minus_bias_p_holm": ("model", "test", "topk", "hr@1", "", "c10", "minus_bias_p_holm"),
    "test/ctr/uauc_users@users_q4": ("model", "test", "ctr", "uauc_users", "users_q4", "", ""),
    "oracle/test/ctr/auc_share": ("oracle", "test", "ctr", "auc_share", "", "", ""),
    "frequent/test/review/bleu4[greedy]": ("frequent", "test", "review", "bleu4", "", "greedy", ""),
    "test/history_cut": ("model", "test", "", "history_cut", "", "", ""),
    "cost/train_seconds": ("cost", "", "", "train_seconds", "", "", ""),
    "diagnostics/ctr/loss_rise_shuffled_low": ("diagnostics", "", "ctr", "loss_rise_shuffled", "", "", "low"),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_read_and_written(key):
    one = MetricIdentity.parse(key)
    assert one == MetricIdentity(*KEYS[key])
    assert str(one) == key


@pytest.mark.parametrize("key", ["", "test/ctr/", "a/b/c/d/e", "test/ctr/auc[c10", "x/y/z/auc"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match="is no key of a metric"):
        MetricIdentity.parse(key)


def test_parts_of_a_figure():
    one = MetricIdentity.parse("test/ctr/auc_minus_text")
    assert str(one.end("low")) == "test/ctr/auc_minus_text_low"
    assert one.end("low").estimate == one
    assert str(one.end("p_holm").estimate.of("cf")) == "cf/test/ctr/auc_minus_text"
    assert str(MetricIdentity.parse("test/ctr/auc_high").estimate) == "test/ctr/auc"
