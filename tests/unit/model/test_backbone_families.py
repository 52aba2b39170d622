"""Every supported family scores as it would by itself: windows, caps, scaled embeddings, ties, precision."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import pytest
import torch

from ckf.config.schema import FAMILIES
from ckf.model.attention.masks import attention_masks, branch_allowed
from ckf.model.backbone import embedding_norm
from tests.unit.model.attention.test_masks import alone
from tests.unit.model.families import KINDS, WINDOWED, load, recommender


def test_every_family_has_a_checkpoint():
    assert {family for family, _ in KINDS.values()} == set(FAMILIES)


@pytest.mark.parametrize("kind", KINDS)
def test_branches_equal_each_answer_alone(kind, checkpoint, tables, collator, mixed):
    model = recommender(kind, checkpoint(kind), tables).eval()
    with torch.no_grad():
        batch, counts = collator.scoring(mixed, slots=True)
        assert batch.position_ids.max() > 24, "prompts must outgrow the windows"
        together = torch.zeros(sum(counts)).index_add_(0, batch.answer_index, model(batch))
        apart = [alone(model, collator, x, label) for x in mixed for label in collator.encoder.labels(x)]
    torch.testing.assert_close(together, torch.stack(apart), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", WINDOWED)
def test_windows_count_and_are_seen_by_the_branches(kind, checkpoint, tables, collator, mixed, monkeypatch):
    model = recommender(kind, checkpoint(kind), tables).eval()
    batch, _ = collator.scoring(mixed, slots=True)
    with torch.no_grad():
        right = model(batch)
        monkeypatch.setattr(model.backbone.config, "sliding_window", 10_000)  # our masks read it, the layers do not
        assert (model(batch) - right).abs().max() > 1e-3


def test_masks_by_kind_of_layer_by_hand():
    branch_id = torch.tensor([[0, 0, 0, 1, 1, 2]])
    positions = torch.tensor([[0, 1, 2, 3, 4, 3]])

    @dataclasses.dataclass
    class Config:
        sliding_window: int | None = 2
        layer_types: tuple[str, ...] | None = ("full_attention", "sliding_attention")

    def seen(mask):
        assert mask.shape == (1, 1, 6, 6)
        return ["".join("1" if x == 0 else "0" for x in row) for row in mask[0, 0].tolist()]

    full = ["100000", "110000", "111000", "111100", "111110", "111001"]
    near = ["100000", "110000", "011000", "001100", "000110", "001001"]  # the last sees position 2, three columns back
    masks = attention_masks(Config(), branch_allowed(branch_id), positions, torch.float32)
    assert {kind: seen(mask) for kind, mask in masks.items()} == {"full_attention": full, "sliding_attention": near}
    assert seen(attention_masks(Config(2, None), branch_allowed(branch_id), positions, torch.float32)) == near
    assert seen(attention_masks(Config(None, None), branch_allowed(branch_id), positions, torch.float32)) == full


@pytest.mark.parametrize("kind", KINDS)
def test_our_forward_equals_the_models_own_on_ids(kind, checkpoint, tables, collator, mixed):
    """Embedding scale, windows, soft-capping of logits: what `Recommender` does by hand is what the model does."""
    model = recommender(kind, checkpoint(kind), tables).eval()
    for layer in model.layers.values():
        torch.nn.init.zeros_(layer.lora_b)
    batch = collator.training(mixed, [1.0] * len(mixed), slots=False)
    with torch.no_grad():
        ours = model(batch)
        logits = load(kind, checkpoint(kind))(input_ids=batch.input_ids).logits[
            batch.answer_rows, batch.answer_positions
        ]
    theirs = logits.log_softmax(-1).gather(1, batch.answer_targets[:, None])[:, 0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_gemmas_cap_is_not_forgotten(checkpoint, tables, collator, mixed, monkeypatch):
    model = recommender("gemma2", checkpoint("gemma2"), tables).eval()
    batch = collator.training(mixed, [1.0] * len(mixed), slots=False)
    with torch.no_grad():
        capped = model(batch)
        monkeypatch.setattr(model.backbone.config, "final_logit_softcapping", None)
        assert (model(batch) - capped).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["llama", "gemma", "gemma2", "gemma3_text"])
def test_slots_start_at_the_norm_that_words_enter_with(kind, checkpoint, tables, collator, mixed):
    model = load(kind, checkpoint(kind))
    words = model.get_input_embeddings()(torch.arange(model.config.vocab_size)).norm(dim=1).mean()
    assert embedding_norm(model) == pytest.approx(float(words), rel=1e-5)
    scale = math.sqrt(32) if kind.startswith("gemma") else 1.0
    weights = model.get_input_embeddings().weight.norm(dim=1).mean()
    assert embedding_norm(model) == pytest.approx(scale * float(weights), rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_backbone_with_fp32_adapters_and_fusion(kind, checkpoint, tables, collator, mixed):
    batch = collator.training(mixed, [1.0] * len(mixed), slots=True)
    full = recommender(kind, checkpoint(kind), tables)(batch).detach()
    model = recommender(kind, checkpoint(kind), tables, dtype="bfloat16")
    assert {p.dtype for p in model.backbone.parameters() if not p.requires_grad} == {torch.bfloat16}
    half = model(batch)
    half.sum().backward()
    trained = [*model.adapter_parameters(), *model.fusion_parameters()]
    assert {p.dtype for p in trained} == {p.grad.dtype for p in trained} == {half.dtype} == {torch.float32}
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in trained)
    assert half.detach().mean().item() == pytest.approx(full.mean().item(), rel=0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_folder_of_fp16_weights_trains_fp32_adapters(checkpoint, tables, collator, mixed, tmp_path, dtype):
    """The dtype is the config's, not the folder's; no gradient is in fp16, so nothing has to be unscaled."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "half"
    shutil.copytree(checkpoint("llama"), folder)
    AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float16).save_pretrained(str(folder))
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    model = recommender("llama", folder, tables, dtype=dtype)
    assert {p.dtype for p in model.backbone.parameters() if not p.requires_grad} == {getattr(torch, dtype)}
    model(collator.training(mixed, [1.0] * len(mixed), slots=True)).sum().backward()
    trained = [*model.adapter_parameters(), *model.fusion_parameters()]
    assert {p.grad.dtype for p in trained} == {torch.float32}
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in trained)


def test_tied_embeddings_stay_tied_and_frozen(checkpoint, tables):
    for kind in ("llama-tied", "gemma"):
        backbone = recommender(kind, checkpoint(kind), tables).backbone
        assert backbone.get_output_embeddings().weight is backbone.get_input_embeddings().weight
        assert not backbone.get_output_embeddings().weight.requires_grad
