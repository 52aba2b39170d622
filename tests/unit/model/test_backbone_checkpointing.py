"""Gradient checkpointing: less memory, the same gradients, on frozen layers too."""

from __future__ import annotations

import pytest
import torch

from ckf.config.compose import compose
from ckf.model.build import build_recommender
from tests.conftest import TASKS, make_example
from tests.unit.model.families import recommender


def gradients_of_two_passes(model, collator) -> tuple[list[torch.Tensor], int]:
    """Gradients of a loss over two streams with other rows, tasks and rights; and calls of a layer in backward."""
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    text = collator.training([make_example(task, 1) for task in TASKS], [1.0] * 4, slots=False)
    slots = collator.training([make_example(task, 2) for task in reversed(TASKS[:3])], [1.0] * 3, slots=True)
    loss = -model(text, learn_adapters=True, learn_fusion=False).sum()
    loss = loss - model(slots, learn_adapters=False, learn_fusion=True).sum()
    handle = next(iter(model.layers.values())).base.register_forward_hook(count)
    loss.backward()
    handle.remove()
    return [p.grad for p in [*model.adapter_parameters(), *model.fusion_parameters()]], calls


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_gradient_checkpointing_changes_memory_and_nothing_else(kind, checkpoint, tables, collator):
    from ckf.model.backbone import checkpoint_activations

    plain, calls = gradients_of_two_passes(recommender(kind, checkpoint(kind), tables), collator)
    assert calls == 0
    model = recommender(kind, checkpoint(kind), tables)
    checkpoint_activations(model.backbone, model.routing)
    again, calls = gradients_of_two_passes(model, collator)
    assert calls == 2, "no layer was recomputed"
    assert not model.backbone.get_input_embeddings()(torch.tensor([1])).requires_grad
    for a, b in zip(again, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    with torch.inference_mode():
        model(collator.scoring([make_example("topk")], slots=True)[0])


def test_checkpointing_is_reached_from_the_config(backbone_folder):
    exp, _ = compose(["fusion=none", "train.gradient_checkpointing=true"])
    model = build_recommender(exp, backbone_folder, None, TASKS)
    layers = model.backbone.get_decoder().layers
    assert all(layer.gradient_checkpointing and layer.training for layer in layers)
    assert not any(layer.self_attn.training for layer in layers)
