"""Multi-LoRA in mixed batches: who gets gradient, and that stock PEFT agrees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ckf.cf.vectors import VectorTables
from ckf.model.adapters import load_adapters, save_adapters
from ckf.model.backbone import load_backbone
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collator
from tests.conftest import LORA, TASKS, make_example, make_model


def gradients(model: Recommender) -> dict[str, float]:
    """Summed absolute gradient of each adapter."""
    totals = {adapter.name: 0.0 for adapter in model.adapters}
    for layer in model.layers.values():
        start = 0
        for adapter in layer.adapters:
            stop = start + adapter.rank
            for grad in (layer.lora_a.grad[start:stop], layer.lora_b.grad[:, start:stop]):
                totals[adapter.name] += float(grad.abs().sum())
            start = stop
    return totals


def backward(model: Recommender, collator: Collator, examples: list, *, slots: bool = False, **routing: bool) -> None:
    batch = collator.training(examples, [1.0] * len(examples), slots=slots)
    (-(model(batch, **routing) * batch.answer_weights).sum()).backward()


def test_every_adapter_gets_gradient_in_a_mixed_batch(model, collator, mixed):
    backward(model, collator, mixed)
    assert set(gradients(model)) == {"shared", *TASKS}
    assert all(value > 1e-6 for value in gradients(model).values())
    for layer in model.layers.values():
        for row in torch.cat([layer.lora_a.grad, layer.lora_b.grad.T], dim=1):
            assert row.abs().sum() > 0, "a rank of the stack without gradient"


@pytest.mark.parametrize("task", TASKS)
def test_a_tasks_adapter_gets_none_from_other_tasks_rows(model, collator, task):
    backward(model, collator, [make_example(task, n) for n in range(3)])
    found = gradients(model)
    assert found.pop("shared") > 1e-6
    assert found.pop(task) > 1e-6
    assert all(value == 0.0 for value in found.values()), found


def test_rows_of_a_mixed_batch_score_as_alone(model, collator, mixed):
    model.eval()
    with torch.no_grad():
        together = model(collator.training(mixed, [1.0] * len(mixed), slots=True))
        alone = torch.cat([model(collator.training([x], [1.0], slots=True)) for x in mixed])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_text_rows_train_adapters_and_slot_rows_the_fusion(model, collator, mixed):
    backward(model, collator, mixed, slots=False, learn_adapters=True, learn_fusion=False)
    assert all(p.grad is None for p in model.fusion.parameters())
    model.zero_grad()
    backward(model, collator, mixed, slots=True, learn_adapters=False, learn_fusion=True)
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in model.adapter_parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.fusion.parameters())


def test_joint_routing_trains_both(model, collator, mixed):
    backward(model, collator, mixed, slots=True, learn_adapters=True, learn_fusion=True)
    assert all(p.grad.abs().sum() > 0 for p in [*model.fusion.parameters(), *model.adapter_parameters()])


@pytest.mark.parametrize("task", TASKS)
def test_stock_peft_gives_the_same_logits(model, collator, backbone_folder, tmp_path, task):
    from peft import PeftModel

    save_adapters(tmp_path, model.layers, model.adapters, str(backbone_folder))
    stock = PeftModel.from_pretrained(load_backbone(backbone_folder), str(tmp_path / "shared"), adapter_name="shared")
    stock.load_adapter(str(tmp_path / task), adapter_name=task)
    stock.base_model.set_adapter(["shared", task])
    stock.eval()
    model.eval()
    batch = collator.training([make_example(task, n) for n in range(4)], [1.0] * 4, slots=False)
    with torch.no_grad():
        mine = model(batch)
        logits = stock(input_ids=batch.input_ids).logits[batch.answer_rows, batch.answer_cols]
        theirs = logits.log_softmax(-1).gather(1, batch.answer_targets[:, None])[:, 0]
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    stock.base_model.set_adapter(["shared"])
    with torch.no_grad():
        logits = stock(input_ids=batch.input_ids).logits[batch.answer_rows, batch.answer_cols]
    assert (logits.log_softmax(-1).gather(1, batch.answer_targets[:, None])[:, 0] - mine).abs().max() > 1e-4


def test_adapters_come_back_from_disk(model, collator, backbone_folder, tables: VectorTables, tmp_path: Path, mixed):
    save_adapters(tmp_path, model.layers, model.adapters, "somewhere")
    fresh = make_model(backbone_folder, tables)
    for layer in fresh.layers.values():
        torch.nn.init.zeros_(layer.lora_b)
    load_adapters(tmp_path, fresh.layers, fresh.adapters)
    batch = collator.training(mixed, [1.0] * len(mixed), slots=False)
    with torch.no_grad():
        torch.testing.assert_close(fresh.eval()(batch), model.eval()(batch), atol=1e-6, rtol=0)


def test_scale_is_alpha_over_rank(model):
    layer = next(iter(model.layers.values()))
    assert layer.lora_scale.unique().tolist() == [LORA.alpha / LORA.rank]


def test_a_target_the_backbone_lacks_is_refused_by_name(backbone_folder, tables):
    import dataclasses

    lora = dataclasses.replace(LORA, shared=dataclasses.replace(LORA.shared, target_modules=["qkv"]))
    with pytest.raises(ValueError, match=r"'qkv'.*q_proj"):
        make_model(backbone_folder, tables, lora=lora)
