"""Steps with a shared prefix: the same loss and gradients in any buckets, ranks and micro-batches; and who says so."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import AutoConfig

from ckf.config.schema import TrainConfig
from ckf.train.batching.batch_plan import BatchPlan
from ckf.train.batching.batches import StepDataset
from ckf.train.batching.prefix_sharing import (
    MAX_OWN_BUCKETS_KV_BYTES,
    choose_stream_mode,
    mean_token_counts,
    token_bytes,
)
from ckf.train.curriculum import Curriculum
from ckf.train.module import FineTuning
from tests.conftest import TASKS, make_model
from tests.worlds import collator_of

STEPS = 10


def gradients(world, collator, model, *, shared: bool, joined=False, buckets=1, accumulation=1, world_size=1, step=4):
    """Loss and gradients of a step as Lightning and DDP make them: means over micro-batches and ranks."""
    curriculum = Curriculum("sigmoid", STEPS)
    table = world[1]
    plan = BatchPlan(table.task_index, TASKS, [2.0, 1.0, 1.0, 1.0], 16, 0)
    module = FineTuning(model, curriculum, TrainConfig(accumulation_steps=accumulation), 0)
    loss = 0.0
    for rank in range(world_size):
        data = StepDataset(
            table, collator, plan, steps=STEPS, curriculum=curriculum, task_weights=[2.0, 1.0, 1.0, 1.0],
            length_buckets=buckets, accumulation_steps=accumulation, rank=rank, world_size=world_size,
            share_prefix=shared, own_buckets=joined,
        )  # fmt: skip
        for micro in range(accumulation):
            part = module.accumulate(data[step * accumulation + micro])["loss"] / accumulation
            loss += part.item() / world_size
    found = [p.grad / world_size for p in [*model.adapter_parameters(), *model.fusion_parameters()]]
    model.zero_grad(set_to_none=True)
    return loss, found


@pytest.mark.parametrize("layout", [{}, {"buckets": 4}, {"accumulation": 2}, {"world_size": 2, "buckets": 2},
                                    {"buckets": 3}, {"joined": True, "buckets": 4}, {"joined": True, "accumulation": 2},
                                    {"joined": True, "world_size": 2, "buckets": 3}])  # fmt: skip
def test_a_step_is_the_same_in_every_layout(world, encoder, backbone_folder, tables, layout):
    collator, model = collator_of(world, encoder), make_model(backbone_folder, tables)
    loss, found = gradients(world, collator, model, shared=False)
    loss_too, found_too = gradients(world, collator, model, shared=True, **layout)
    assert loss_too == pytest.approx(loss, rel=1e-5)
    for mine, theirs in zip(found_too, found, strict=True):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm().clamp(min=1e-2)


def test_joined_branches_have_buckets_of_their_own(world, encoder):
    """Fewer passes over fewer tokens; every slot prompt once, after the beginning of its own text prompt."""
    collator, (_, table) = collator_of(world, encoder), world
    plan = BatchPlan(table.task_index, TASKS, [2.0, 1.0, 1.0, 1.0], 16, 0)
    apart, joined = (
        StepDataset(
            table, collator, plan, steps=STEPS, curriculum=Curriculum("sigmoid", STEPS), task_weights=[1.0] * 4,
            length_buckets=6, accumulation_steps=1, rank=0, world_size=1, share_prefix=True, own_buckets=join,
        )[0]
        for join in (False, True)
    )  # fmt: skip
    assert len(joined.groups()) == 1
    assert len(apart.groups()) == len(apart.prompts[True]) > len(joined.prompts[True])
    assert joined.tokens == apart.tokens
    texts = [row for batch in joined.prompts[False] for row in batch.example_ids]
    for branch in joined.prompts[True]:
        assert branch.example_ids == [texts[row] for row in branch.prefix_rows.tolist()]
    assert sorted(row for b in joined.prompts[True] for row in b.example_ids) == sorted(texts)
    computed = sum(batch.input_ids.numel() for batches in joined.prompts.values() for batch in batches)
    assert joined.padding == pytest.approx(1 - joined.tokens / computed)


def path_of(curriculum, world, collator, *, token_bytes=10**9):
    return choose_stream_mode(Curriculum(curriculum, STEPS), world[1], collator, rows=16, token_bytes=token_bytes)


def test_a_small_backbone_joins_the_branches_of_its_buckets(world, encoder):
    late = collator_of(world, encoder)
    _, _, text = mean_token_counts(world[1], late)
    assert path_of("sigmoid", world, late, token_bytes=int(MAX_OWN_BUCKETS_KV_BYTES / 16 / text) - 1).own_buckets
    assert not path_of("sigmoid", world, late, token_bytes=int(MAX_OWN_BUCKETS_KV_BYTES / 16 / text) + 1).own_buckets
    assert str(path_of("sigmoid", world, late, token_bytes=1)).endswith("too; the rest is in buckets of its own)")
    config = AutoConfig.for_model("llama", num_hidden_layers=3, hidden_size=40, num_attention_heads=4,
                                  num_key_value_heads=2)  # fmt: skip
    assert token_bytes(config, torch.bfloat16) == 3 * 2 * 2 * 10 * 2


def test_the_stream_mode_is_chosen_and_named(world, encoder):
    late = collator_of(world, encoder)
    path = path_of("sigmoid", world, late)
    assert path.share_prefix
    assert str(path).startswith("shared prefix (")
    assert str(path).endswith("of the slot prompts' tokens are the text prompts' too)")
    early = path_of("sigmoid", world, collator_of(world, encoder, "slots_early"))
    assert not early.share_prefix
    assert str(early).startswith("two passes (slots come early: ")
    for curriculum in ("joint", "two_stage", "text_only"):
        assert str(path_of(curriculum, world, late)) == "one stream"


def test_adapters_that_learn_from_both_streams_take_two_passes(world, encoder, monkeypatch):
    streams = Curriculum("sigmoid", STEPS).streams(0)
    both = [streams[0], dataclasses.replace(streams[1], learn_adapters=True)]
    monkeypatch.setattr(Curriculum, "streams", lambda self, step: both)
    path = path_of("sigmoid", world, collator_of(world, encoder))
    assert str(path) == "two passes (adapters or fusion learn from both)"
