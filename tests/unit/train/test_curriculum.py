"""The curriculum's weight, its routing table, and what `apply` moves."""

from __future__ import annotations

import math

import pytest

from ckf.config.schema import TrainConfig
from ckf.train.curriculum import Curriculum
from ckf.train.module import schedule_factor


@pytest.mark.parametrize("total", [10, 101, 2000])
def test_sigmoid_weight_equals_its_formula(total):
    b = total / 2
    for z in range(total):
        expected = 1 / (1 + math.exp(8 * (z - b) / b))
        text, fused = Curriculum("sigmoid", total).streams(z)
        assert text.weight == pytest.approx(expected, abs=1e-12)
        assert fused.weight == pytest.approx(1 - expected, abs=1e-12)
    assert Curriculum("sigmoid", total).text_weight(b) == 0.5


def test_routing_tables():
    def table(name: str) -> list[tuple[bool, bool, bool]]:
        return [(s.slots, s.learn_adapters, s.learn_fusion) for s in Curriculum(name, 10).streams(3)]

    assert table("sigmoid") == [(False, True, False), (True, False, True)]
    assert table("joint") == [(True, True, True)]
    assert table("text_only") == [(False, True, False)]


def test_apply_lr_moves_the_rates_and_leaves_the_losses():
    by_rate, by_loss = Curriculum("sigmoid", 100, "lr"), Curriculum("sigmoid", 100, "loss")
    assert [s.weight for s in by_rate.streams(90)] == [1.0, 1.0]
    assert by_rate.rate_factors(90) == pytest.approx((by_loss.text_weight(90), 1 - by_loss.text_weight(90)))
    assert by_loss.rate_factors(90) == (1.0, 1.0)
    assert by_loss.streams(90)[0].weight < 0.01


def test_schedule_warms_up_and_ends_near_zero():
    cfg = TrainConfig(warmup_fraction=0.1)
    rates = [schedule_factor(cfg, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[-1] == pytest.approx(1 / 90)
    assert schedule_factor(TrainConfig(schedule="constant"), 99, 100) == 1.0
    assert schedule_factor(TrainConfig(schedule="cosine", warmup_fraction=0.0), 50, 100) == pytest.approx(0.5, abs=0.02)
