"""The curriculum: its weights, its routing table tested on gradients, who rests, and what `apply` moves."""

from __future__ import annotations

import math

import pytest
import torch

from ckf.config.registry import SCHEMAS
from ckf.config.schema import TrainConfig
from ckf.train.batching.batches import StepBatch
from ckf.train.curriculum import Curriculum, build_curriculum
from ckf.train.module import FineTuning, gradient_norm, schedule_factor
from tests.conftest import make_model

CFG = TrainConfig(learning_rate=1e-2, fusion_learning_rate=1e-2, warmup_fraction=0.0, schedule="constant")


@pytest.mark.parametrize("total", [10, 101, 2000])
def test_sigmoid_weight_equals_its_formula(total):
    b = total / 2
    for z in range(total):
        expected = 1 / (1 + math.exp(8 * (z - b) / b))
        text, fused = Curriculum("sigmoid", total).streams(z)
        assert text.weight == pytest.approx(expected, abs=1e-12)
        assert fused.weight == pytest.approx(1 - expected, abs=1e-12)
    assert Curriculum("sigmoid", total).text_weight(b) == 0.5


TABLE = [  # (curriculum, step of 10) -> (slots, learn_adapters, learn_fusion) of each stream
    (Curriculum("sigmoid", 10), 3, [(False, True, False), (True, False, True)]),
    (Curriculum("joint", 10), 3, [(True, True, True)]),
    (Curriculum("text_only", 10), 3, [(False, True, False)]),
    (Curriculum("two_stage", 10), 4, [(False, True, False)]),
    (Curriculum("two_stage", 10), 5, [(True, False, True)]),
    (Curriculum("two_stage", 10, second_stage="adapters"), 5, [(True, True, False)]),
    (Curriculum("two_stage", 10, second_stage="both"), 9, [(True, True, True)]),
    (Curriculum("two_stage", 10, first_fraction=0.2), 2, [(True, False, True)]),
]


def step_batch(collator, examples, curriculum: Curriculum, step: int) -> StepBatch:
    prompts = {
        s.slots: [collator.training(examples, [1 / len(examples)] * len(examples), slots=s.slots)]
        for s in curriculum.streams(step)
    }
    return StepBatch(step, [x.example_id for x in examples], prompts, 0)


class Silent(FineTuning):
    """The module without a trainer; its step is set by hand."""

    now = 0

    @property
    def global_step(self) -> int:
        return self.now


def module_of(model, curriculum: Curriculum) -> Silent:
    return Silent(model, curriculum, CFG, seed=0)


@pytest.mark.parametrize(("curriculum", "step", "expected"), TABLE)
def test_the_routing_table_is_what_the_gradients_say(model, collator, mixed, curriculum, step, expected):
    streams = curriculum.streams(step)
    assert [(s.slots, s.learn_adapters, s.learn_fusion) for s in streams] == expected
    parts = {"adapters": model.adapter_parameters(), "fusion": model.fusion_parameters()}
    module = module_of(model, curriculum)
    for stream in streams:  # each stream by itself: nothing leaks from one into the other's part
        model.zero_grad()
        passes = module._passes(step_batch(collator, mixed, curriculum, step))
        sum(log_probability.sum() for one, _, log_probability in passes if one == stream).backward()
        for part, learns in (("adapters", stream.learn_adapters), ("fusion", stream.learn_fusion)):
            assert (gradient_norm(parts[part]) > 1e-6) == learns
    rests = (not any(x[1] for x in expected), not any(x[2] for x in expected))
    assert curriculum.frozen_parts(step) == rests


@pytest.mark.parametrize(("curriculum", "step", "expected"), TABLE)
def test_every_parameter_is_in_the_graph_of_every_step(model, collator, mixed, curriculum, step, expected):
    """DDP waits for all of them; those at rest get zeros, and lose them before the optimizer sees them."""
    module = module_of(model, curriculum)
    module.now = step
    module.accumulate(step_batch(collator, mixed, curriculum, step))
    module._zero_of_all().backward()
    trainable = [*model.adapter_parameters(), *model.fusion_parameters()]
    assert all(p.grad is not None for p in trainable)
    module.gradient_norms()
    parts = (model.adapter_parameters(), model.fusion_parameters())
    for part, rests in zip(parts, curriculum.frozen_parts(step), strict=True):
        assert all((p.grad is None) == rests for p in part)
        assert rests or gradient_norm(part) > 1e-6


def steps_of(model, collator, mixed, curriculum: Curriculum, total: int) -> list[dict[str, torch.Tensor]]:
    """Train ``total`` steps as Lightning would; the trainable weights after each."""
    module = module_of(model, curriculum)
    configured = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    states = []
    for step in range(total):
        module.now = step
        optimizer.zero_grad()
        module.accumulate(step_batch(collator, mixed, curriculum, step))
        module._zero_of_all().backward()
        module.gradient_norms()
        optimizer.step()
        scheduler.step()
        states.append({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
    return states


def moved(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], part: str) -> float:
    return sum(float((a[n] - b[n]).norm()) for n in a if (part in n))


def test_two_stage_rests_the_fusion_first_and_the_adapters_then(model, collator, mixed):
    """Not one bit of drift: neither weight decay nor Adam's momentum moves what rests."""
    start = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    states = steps_of(model, collator, mixed, Curriculum("two_stage", 8), 8)
    assert moved(start, states[3], "fusion.") == 0.0
    assert moved(start, states[3], "lora_") > 1e-3
    assert moved(states[3], states[7], "lora_") == 0.0
    assert moved(states[3], states[7], "fusion.") > 1e-3


def test_each_stage_has_its_own_schedule():
    module = Silent(torch.nn.Linear(1, 1), Curriculum("two_stage", 20), TrainConfig(warmup_fraction=0.2), 0)
    rates = [module._rate(0)(step) for step in range(20)]
    assert rates[:10] == rates[10:]
    assert rates[0] == 0.5
    assert max(rates) == 1.0
    assert rates[9] < 0.2
    assert Curriculum("two_stage", 2, first_fraction=0.01).boundary == 1
    assert Curriculum("two_stage", 2, first_fraction=0.99).boundary == 1


def test_the_logged_text_weight():
    assert [Curriculum("two_stage", 4).text_weight(z) for z in range(4)] == [1.0, 1.0, 0.0, 0.0]
    assert Curriculum("joint", 4).text_weight(1) == 0.0
    assert Curriculum("text_only", 4).text_weight(1) == 1.0


def test_gradient_shares_are_logged(model, collator, mixed):
    module = module_of(model, Curriculum("sigmoid", 10))
    for step in (0, 9):
        model.zero_grad()
        module.now = step
        module.accumulate(step_batch(collator, mixed, module.curriculum, step))
        found = module.gradient_norms()
        shares = found["grad_share_adapters"], found["grad_share_fusion"]
        assert sum(shares) == pytest.approx(1.0)
        assert found["grad_norm_fusion"] == pytest.approx(gradient_norm(model.fusion_parameters()))
        assert (shares[0] > 0.9) if step == 0 else (shares[1] > 0.5)


def test_apply_lr_moves_the_rates_and_leaves_the_losses():
    by_rate, by_loss = Curriculum("sigmoid", 100, "lr"), Curriculum("sigmoid", 100, "loss")
    assert [s.weight for s in by_rate.streams(90)] == [1.0, 1.0]
    assert by_rate.lr_multipliers(90) == pytest.approx((by_loss.text_weight(90), 1 - by_loss.text_weight(90)))
    assert by_loss.lr_multipliers(90) == (1.0, 1.0)
    assert by_loss.streams(90)[0].weight < 0.01


def pace(model, collator, mixed, apply: str, total: int) -> dict[str, float]:
    """How far each part moves a step in the middle of the run over how far it moves where its weight is full."""
    states = steps_of(model, collator, mixed, Curriculum("sigmoid", total, apply), total)

    def speed(part: str, place: int) -> float:
        return sum(moved(states[z], states[z + 1], part) for z in range(place, place + 3))

    early, late = total // 5, total - 5
    return {"adapters": speed("lora_", late) / speed("lora_", early),
            "fusion": speed("fusion.", early) / speed("fusion.", late)}  # fmt: skip


def test_adam_cancels_the_rise_of_a_loss_weight_but_not_of_a_rate(backbone_folder, tables, collator, mixed):
    """The fusion's weight at a fifth of the run is 0.008 of its full one; how fast does it move there?

    Under ``loss`` Adam divides by the gradients it has seen, all of them as small, so the fusion moves at a
    pace of its own: most of the schedule is cancelled. Under ``lr`` it moves as the schedule says.
    """
    total = 40
    planned = 1 - Curriculum("sigmoid", total).text_weight(total // 5)
    by = {a: pace(make_model(backbone_folder, tables), collator, mixed, a, total) for a in ("loss", "lr")}
    assert planned < 0.01
    assert by["lr"]["fusion"] < 10 * planned
    assert by["loss"]["fusion"] > 50 * planned, "measured: 1.08 of full speed where the schedule says 0.008"
    assert by["loss"]["adapters"] > 20 * by["lr"]["adapters"], "measured: 0.16 at the end, against 0.001"


def test_every_curriculum_config_builds_and_an_unknown_one_is_named():
    for name, cls in SCHEMAS["curriculum"].items():
        if name == "none":
            with pytest.raises(TypeError, match="NoCurriculumConfig"):
                build_curriculum(cls(name=name), 10)
        else:
            assert build_curriculum(cls(name=name), 10).name == name


def test_schedule_warms_up_and_ends_near_zero():
    cfg = TrainConfig(warmup_fraction=0.1)
    rates = [schedule_factor(cfg, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[-1] == pytest.approx(1 / 90)
    assert schedule_factor(TrainConfig(schedule="constant"), 99, 100) == 1.0
    assert schedule_factor(TrainConfig(schedule="cosine", warmup_fraction=0.0), 50, 100) == pytest.approx(0.5, abs=0.02)
