"""The last layer at the positions that are read: the values and gradients of the whole layer, from less of it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ckf.model.attention.last_layer import OutputPositions
from ckf.model.backbone import vocabulary_logits
from tests.unit.model.families import KINDS, recommender


def trained(model) -> list[torch.nn.Parameter]:
    return [*model.adapter_parameters(), *model.fusion_parameters()]


def whole(model, batch) -> torch.Tensor:
    """`Recommender.forward` with every layer at every position."""
    hidden = model.hidden(batch)
    logits = vocabulary_logits(model.backbone, hidden[batch.answer_rows, batch.answer_positions])
    if batch.logit_index is not None:
        logits = logits[batch.logit_index]
    return -F.cross_entropy(logits, batch.answer_targets, reduction="none")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scoring", [False, True], ids=["training", "scoring"])
def test_every_family_computes_the_same_from_less(kind, checkpoint, tables, collator, mixed, scoring):
    model = recommender(kind, checkpoint(kind), tables)
    batch = collator.scoring(mixed, slots=True)[0] if scoring else collator.training(mixed, [1.0] * 8, slots=True)
    expected = whole(model, batch)
    expected.sum().backward()
    gradients = [p.grad for p in trained(model)]
    model.zero_grad(set_to_none=True)
    widths = []
    handle = model.backbone.get_decoder().layers[-1].mlp.register_forward_hook(lambda m, x, y: widths.append(y.shape))
    found = model(batch)
    found.sum().backward()
    handle.remove()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip([p.grad for p in trained(model)], gradients, strict=True):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm().clamp(min=1e-2)
    most = int(torch.bincount(batch.answer_rows).max())
    assert widths == [(len(mixed), most, 32)], "the last layer ran at more positions than are read"
    assert most < batch.input_ids.shape[1]


def test_reads_by_hand():
    reads, place = OutputPositions.of(torch.tensor([0, 0, 2]), torch.tensor([4, 5, 7]), 3)
    assert reads.positions.tolist() == [[4, 5], [0, 0], [7, 0]]
    assert place.tolist() == [0, 1, 0]
