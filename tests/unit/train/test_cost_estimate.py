"""`ckf plan`: parts counted without weights, what is unknown without data; the clock's shares."""

from __future__ import annotations

import pytest

from ckf.cli.plan import plan
from ckf.config.compose import compose
from ckf.core.errors import ConfigError
from ckf.model.dummy_models import backbone_config, build_dummy_recommender, cf_width
from ckf.train import throughput as clock_module
from ckf.train.batching.batches import StepBatch
from ckf.train.cost_estimate import count_parameters, describe_cost, format_duration
from ckf.train.throughput import StepClock


def test_parts_are_counted_on_no_device_as_on_one():
    exp = compose(["lora.rank=4"])[0]
    tasks = ["ctr", "rating", "topk", "explain"]
    counts = []
    for device in ("meta", "cpu"):
        model = build_dummy_recommender(exp, backbone_config(exp, 500), cf_width(exp), tasks, device)
        counts.append(count_parameters(model))
        assert counts[-1].trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert counts[-1].backbone == sum(p.numel() for p in model.backbone.parameters() if not p.requires_grad)
    assert counts[0] == counts[1]
    assert counts[0].adapters == {"shared": 3 * 2 * 4 * 128, **dict.fromkeys(tasks, 2 * 4 * 128)}
    assert (
        count_parameters(build_dummy_recommender(exp, backbone_config(exp, 500), 17, tasks, "meta", layers=1))
        != counts[0]
    )


def test_a_quantised_backbone_weighs_its_bits():
    exp = compose([])[0]
    model = build_dummy_recommender(exp, backbone_config(exp, 500), 17, ["ctr"], "meta")
    plain, half = count_parameters(model), count_parameters(model, "4bit")
    assert half.backbone_bytes == plain.backbone // 2
    assert plain.backbone_bytes == 4 * plain.backbone
    assert 0 < plain.layer_bytes < plain.backbone_bytes
    assert plain.held_bytes(sharded_over=2) == plain.backbone_bytes - plain.layer_bytes // 2


def test_without_data_the_parts_are_told_and_what_is_missing():
    lines = describe_cost(compose([])[0], None)
    assert lines[0].startswith("parameters: backbone ")
    assert "adapters shared 12,288, ctr 4,096" in lines[0]
    assert lines[-1].startswith("tokens, time, peak memory: not known yet (ckf prepare makes the data")


def test_plan_goes_on_without_the_data_files(tmp_path, capsys):
    plan(compose(["dataset=ml1m", f"dataset.root={tmp_path / 'nowhere'}", f"paths.cache={tmp_path}"])[0])
    out = capsys.readouterr().out
    assert out.startswith("data: ")
    assert "nowhere" in out.splitlines()[0]
    assert "trained: " in out


def test_plan_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="plan: backbone=none with curriculum=text_only trains nothing"):
        plan(compose(["method=cf_only"])[0])


def test_durations_are_formatted():
    assert [format_duration(x) for x in (0.25, 61, 3600 * 5 + 120, 86400 * 2 + 3600)] == [
        "0.2 s",
        "1 min 1 s",
        "5 h 2 min",
        "2 d 1 h",
    ]


def test_the_clock_tells_waiting_from_work(monkeypatch):
    now = iter([0.0, 1.0, 4.0, 4.5, 8.0])  # a second and then half a second of waiting in eight
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: next(now))

    class Trainer:
        global_step = 0

    clock, trainer = StepClock(), Trainer()
    clock.on_train_start(trainer, None)
    for step in (1, 2):
        trainer.global_step = step
        batch = StepBatch(step, [], {}, 0, padding=0.5, tokens=40)
        clock.on_train_batch_start(trainer, None, [batch], step)
        clock.on_train_batch_end(trainer, None, None, [batch], step)
    assert clock.counts(0) == {
        "seconds_per_step": 4.0, "tokens_per_second": 10.0, "waiting_share": 0.1875, "padding_share": 0.5,
    }  # fmt: skip
    assert clock.counts(2) == {}
