"""Multi-LoRA in mixed batches: who gets gradient, and that stock PEFT agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ckf.config.compose import compose
from ckf.config.schema import LoraConfig, LoraRoleConfig, LoraTaskConfig
from ckf.core.errors import ConfigError
from ckf.model.build import adapter_specs, build_recommender
from ckf.model.lora import AdapterRouting, AdapterSpec, MultiLoraLinear
from ckf.model.peft_io import save_adapters
from ckf.model.recommender import Recommender
from ckf.prompts.batch import PromptBatch
from ckf.prompts.collate import Collators
from tests.conftest import LORA, TASKS, make_example
from tests.unit.model.families import KINDS, load, recommender


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


def backward(model: Recommender, collator: Collators, examples: list, *, slots: bool = False, **routing: bool) -> None:
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


# --- stock PEFT, task by task

WIDE = LoraConfig(
    name="multi",
    rank=4,
    alpha=8.0,
    rslora=True,
    shared=LoraRoleConfig(target_modules=["q_proj", "v_proj", "down_proj"], rank=3),
    per_task=LoraRoleConfig(target_modules=["q_proj", "o_proj"]),
    tasks=[LoraTaskConfig(name="ctr", rank=2, alpha=3.0), LoraTaskConfig(name="topk", target_modules=["v_proj"])],
)
"""Roles that overlap on q_proj and v_proj, ranks and targets of single tasks, alpha / sqrt(rank)."""


def stock_model(kind: str, folder: Path, adapters: Path, task: str) -> Any:
    from peft import PeftModel

    stock = PeftModel.from_pretrained(load(kind, folder), str(adapters / "shared"), adapter_name="shared")
    stock.load_adapter(str(adapters / task), adapter_name=task)
    stock.base_model.set_adapter(["shared", task])
    return stock.train()


def answer_log_probabilities(stock: Any, batch: PromptBatch) -> torch.Tensor:
    logits = stock(input_ids=batch.input_ids).logits[batch.answer_rows, batch.answer_positions]
    return logits.log_softmax(-1).gather(1, batch.answer_targets[:, None])[:, 0]


@pytest.mark.parametrize(
    ("kind", "lora"), [*((kind, LORA) for kind in KINDS), ("llama", WIDE), ("gemma2", WIDE)],
    ids=lambda value: "wide" if value is WIDE else value if isinstance(value, str) else "",
)  # fmt: skip
def test_loss_and_gradients_are_those_of_stock_peft(kind, lora, checkpoint, tables, collator, tmp_path):
    """One mixed batch here; there a batch for each task with its two adapters on, the gradients summed."""
    model = recommender(kind, checkpoint(kind), tables, lora)
    save_adapters(tmp_path, model.layers, model.adapters, "somewhere")
    examples = [make_example(task, n) for n in (0, 1, 2) for task in TASKS]
    batch = collator.training(examples, [1.0] * len(examples), slots=False)
    loss = -model(batch).sum()
    loss.backward()
    total, theirs = 0.0, {}
    for task in TASKS:
        stock = stock_model(kind, checkpoint(kind), tmp_path, task)
        mine = [example for example in examples if example.task == task]
        part = -answer_log_probabilities(stock, collator.training(mine, [1.0] * len(mine), slots=False)).sum()
        part.backward()
        total += part.item()
        for name, parameter in stock.named_parameters():
            if parameter.requires_grad:
                theirs[name] = theirs.get(name, 0) + parameter.grad
    assert loss.item() == pytest.approx(total, rel=1e-5)
    compared = 0
    for name, layer in model.layers.items():
        for adapter in layer.adapters:
            for kind_of, own in zip("AB", grads_of(layer, adapter.name), strict=True):
                other = theirs.pop(f"base_model.model.{name}.lora_{kind_of}.{adapter.name}.weight")
                assert other.norm() > 1e-4
                assert (own - other).norm() / other.norm() < 1e-5, (name, adapter.name, kind_of)
                compared += 1
    assert theirs == {}
    assert compared == 2 * sum(len(layer.adapters) for layer in model.layers.values())


def grads_of(layer: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    start = sum(adapter.rank for adapter in layer.adapters[: [a.name for a in layer.adapters].index(name)])
    stop = start + next(adapter.rank for adapter in layer.adapters if adapter.name == name)
    return layer.lora_a.grad[start:stop], layer.lora_b.grad[:, start:stop]


@pytest.mark.parametrize("task", TASKS)
def test_both_adapters_matter_to_stock_peft(model, collator, backbone_folder, tmp_path, task):
    save_adapters(tmp_path, model.layers, model.adapters, str(backbone_folder))
    stock = stock_model("llama", backbone_folder, tmp_path, task).eval()
    batch = collator.training([make_example(task, n) for n in range(4)], [1.0] * 4, slots=False)
    with torch.no_grad():
        mine = model.eval()(batch)
        torch.testing.assert_close(mine, answer_log_probabilities(stock, batch), atol=1e-5, rtol=1e-5)
        stock.base_model.set_adapter(["shared"])
        assert (answer_log_probabilities(stock, batch) - mine).abs().max() > 1e-4


# --- roles


def test_ranks_targets_and_scales_of_roles_and_tasks():
    specs = {spec.name: spec for spec in adapter_specs(WIDE, TASKS)}
    assert {name: spec.rank for name, spec in specs.items()} == {
        "shared": 3, "ctr": 2, "rating": 4, "topk": 4, "explain": 4,
    }  # fmt: skip
    assert specs["topk"].target_modules == ("v_proj",)
    assert specs["rating"].target_modules == ("q_proj", "o_proj")
    assert specs["ctr"].scale == pytest.approx(3 / 2**0.5)
    assert specs["rating"].scale == pytest.approx(4.0)
    assert [spec.scale for spec in adapter_specs(LORA, TASKS)] == [2.0] * 5


@pytest.mark.parametrize(
    ("option", "names", "targets"),
    [
        ("multi", ["shared", *TASKS], ("k_proj", "v_proj", "o_proj")),
        ("shared", ["shared"], ("q_proj", "v_proj")),
        ("per_task", TASKS, ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("none", [], None),
    ],
)
def test_every_option_builds_its_roles(option, names, targets, backbone_folder):
    own = ["curriculum=none"] if option == "none" else []
    exp, _ = compose([f"lora={option}", "fusion=none", *own])
    built = build_recommender(exp, backbone_folder, None, TASKS)
    assert [adapter.name for adapter in built.adapters] == names
    assert not names or built.adapters[0].target_modules == targets
    assert bool(built.adapter_parameters()) == bool(names)


def test_a_tasks_own_values_come_from_the_config(backbone_folder):
    exp, _ = compose(["lora.tasks=[{name: rating, rank: 5, alpha: 10}]", "lora.rslora=true", "fusion=none"])
    specs = {spec.name: spec for spec in build_recommender(exp, backbone_folder, None, TASKS).adapters}
    assert (specs["rating"].rank, specs["ctr"].rank) == (5, 16)
    assert specs["rating"].scale == pytest.approx(10 / 5**0.5)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("lora.tasks=[{name: ctrr}]", "lora.tasks[0].name: ctrr is not a task of this run (ctr, rating, topk, exp"),
        ("lora.tasks=[{name: ctr, rank: 0}]", "lora.tasks[0].rank: must be at least 1, got 0"),
        ("lora.tasks=[{name: ctr, rnak: 1}]", "lora.tasks[0].rnak: unknown key; did you mean 'lora.tasks[0].rank'?"),
        ("lora.tasks=[{name: ctr, target_modules: []}]", "lora.tasks[0].target_modules: is empty"),
        ("lora.tasks=[{name: ctr}, {name: ctr}]", "lora.tasks[1].name: ctr is listed twice"),
        ("lora.init=[{role: all, path: x}]", "lora.init[0].role: 'all' is not an adapter of this run (shared, ctr"),
        ("lora.init=[{role: shared}]", "lora.init[0].path: required, has no value"),
    ],
)
def test_a_wrong_role_is_one_line(override, problem):
    with pytest.raises(ConfigError) as caught:
        compose([override])
    (line,) = str(caught.value).splitlines()
    assert line.startswith(problem)


def test_a_tasks_own_values_need_adapters_of_single_tasks():
    with pytest.raises(ConfigError, match=r"lora\.tasks\[0\]\.name: ctr, but lora=shared has no adapters of single"):
        compose(["lora=shared", "lora.tasks=[{name: ctr}]"])


def test_dropout_by_role():
    """The shared rank is dropped at 1 - 1/5 of the inputs, the task's never; kept inputs are scaled up, as in PEFT."""
    torch.manual_seed(0)
    base = torch.nn.Linear(4000, 2, bias=False)
    torch.nn.init.zeros_(base.weight)
    routing = AdapterRouting()
    routing.route(torch.tensor([0]))
    specs = [AdapterSpec("shared", 1, 1.0, 0.8, ("x",)), AdapterSpec("ctr", 1, 1.0, 0.0, ("x",))]
    layer = MultiLoraLinear(base, specs, [-1, 0], routing)
    torch.nn.init.ones_(layer.lora_a)
    layer.lora_b.data = torch.eye(2)
    shared, own = layer(torch.ones(1, 1, 4000))[0, 0].tolist()
    assert own == pytest.approx(4000)
    assert shared != pytest.approx(4000)
    assert shared == pytest.approx(4000, rel=0.1)
    assert layer.eval()(torch.ones(1, 1, 4000))[0, 0].tolist() == pytest.approx([4000, 4000])


def test_one_rate_is_one_mask_for_all_roles():
    specs = [AdapterSpec("shared", 2, 1.0, 0.1, ("x",)), AdapterSpec("ctr", 2, 1.0, 0.1, ("x",))]
    layer = MultiLoraLinear(torch.nn.Linear(3, 3), specs, [-1, 0], AdapterRouting())
    assert layer.group_ranks == [4]
