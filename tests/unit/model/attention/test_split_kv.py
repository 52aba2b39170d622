"""Attention over a shared beginning and a row's own keys equals attention over both in one tensor."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ckf.config.schema import EAGER_ONLY
from ckf.eval.scoring_batches import score_batch
from ckf.model.attention.split_kv import NAME, SplitKV, split_kv_attention
from tests.unit.eval.test_scoring_batches import CPU, same_user
from tests.unit.model.families import KINDS, recommender


@pytest.mark.parametrize("groups", [1, 2, 4], ids=lambda g: f"{g} queries to a key")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_parts_equal_one_tensor(groups, dtype):
    counts, keys, before, own, width = [1, 3, 2], 2, 7, 4, 8
    torch.manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape).to(dtype)

    query = draw(6, keys * groups, own, width)
    key, value = (SplitKV(draw(3, keys, before, width), draw(6, keys, own, width), counts) for _ in range(2))
    shown = torch.rand(6, 1, own, before + own) < 0.5
    shown[..., 0] = True
    mask = torch.zeros(shown.shape, dtype=dtype).masked_fill(~shown, torch.finfo(dtype).min)
    module = SimpleNamespace(num_key_value_groups=groups)
    found, _ = split_kv_attention(module, query, key, value, mask, scaling=0.3)
    whole, _ = split_kv_attention(module, query, key.joined(), value.joined(), mask, scaling=0.3)
    assert found.shape == whole.shape == (6, own, keys * groups, width)
    torch.testing.assert_close(found, whole, atol=1e-5 if dtype is torch.float32 else 2e-2, rtol=1e-4)
    usual, _ = split_kv_attention(module, query, key, value, mask)
    expected, _ = split_kv_attention(module, query, key, value, mask, scaling=1 / math.sqrt(width))
    torch.testing.assert_close(usual, expected)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "gemma2"])
def test_nothing_is_copied_where_the_attention_takes_parts(kind, checkpoint, tables, collator, monkeypatch):
    model = recommender(kind, checkpoint(kind), tables).eval()
    assert model.split_kv == (kind not in EAGER_ONLY)
    joined, copies = SplitKV.joined, []

    def counted(self):
        copies.append(len(self.own))
        return joined(self)

    monkeypatch.setattr(SplitKV, "joined", counted)
    score_batch(model, collator, same_user("ctr", range(6, 12)), slots=True, device=CPU)
    assert bool(copies) == (kind in EAGER_ONLY)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_beginning_need_not_stand_side_by_side(kind, checkpoint, tables, collator):
    model = recommender(kind, checkpoint(kind), tables).eval()
    ctr, rating = same_user("ctr", range(6, 9)), same_user("rating", range(6, 9))
    sorted_rows = score_batch(model, collator, [*ctr, *rating], slots=True, device=CPU).answers
    mixed = [ctr[1], rating[2], ctr[0], rating[0], rating[1], ctr[2]]
    found = score_batch(model, collator, mixed, slots=True, device=CPU).answers
    for scores, place in zip(found, [1, 5, 0, 3, 4, 2], strict=True):
        np.testing.assert_allclose(scores, sorted_rows[place], atol=1e-5)


def test_the_configuration_that_is_saved_names_no_attention_of_ours(checkpoint, tables, tmp_path):
    model = recommender("llama", checkpoint("llama"), tables)
    assert model.backbone.config._attn_implementation == NAME
    model.backbone.config.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
