"""Backbones: every supported family scores branches as if alone; others are refused by name; bf16 works."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from ckf.errors import ArtifactError, ConfigError
from ckf.model.backbone import FAMILIES, load_backbone, load_tokenizer
from ckf.model.build import build_fusion
from tests.conftest import CF_DIM, TASKS, make_example, make_model

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_branches_equal_each_answer_alone_in_every_family(family, backbone_folder, tables, collator, mixed, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = load_tokenizer(backbone_folder)
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), head_dim=8, **SHAPE)
    AutoModelForCausalLM.from_config(config).save_pretrained(str(tmp_path))
    model = make_model(tmp_path, tables).eval()
    with torch.no_grad():
        batch, counts = collator.scoring(mixed, slots=True)
        together = torch.zeros(sum(counts)).index_add_(0, batch.answer_branch, model(batch))
        right = collator.training(mixed, [1.0] * len(mixed), slots=True)
        alone = torch.zeros(len(mixed)).index_add_(0, right.answer_rows, model(right))
    at = 0
    for number, (example, count) in enumerate(zip(mixed, counts, strict=True)):
        label = collator.encoder.labels(example).index(collator.encoder.true_label(example))
        torch.testing.assert_close(together[at + label], alone[number], atol=1e-4, rtol=0)
        at += count


def test_a_family_that_is_not_supported_is_refused_by_name(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)).save_pretrained(str(tmp_path))
    with pytest.raises(ArtifactError, match=r"family 'gpt2', which is not supported; supported: llama, mistral"):
        load_backbone(tmp_path)


def test_nothing_to_load_is_one_line(tmp_path):
    for load in (load_backbone, load_tokenizer):
        with pytest.raises(ArtifactError, match=r"backbone\.path: no \w+ could be loaded") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


def test_bf16_backbone_with_fp32_adapters(backbone_folder, tables, collator, mixed):
    model = make_model(backbone_folder, tables)
    batch = collator.training(mixed, [1.0] * len(mixed), slots=True)
    full = model(batch).detach()
    model.backbone.to(torch.bfloat16)
    for layer in model.layers.values():
        layer.lora_a.data, layer.lora_b.data = layer.lora_a.data.float(), layer.lora_b.data.float()
    half = model(batch)
    half.sum().backward()
    assert half.dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 for p in [*model.adapter_parameters(), *model.fusion_parameters()])
    torch.testing.assert_close(half.detach(), full, atol=0.15, rtol=0.05)


def test_only_adapters_and_fusion_are_trainable(model):
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in [*model.adapter_parameters(), *model.fusion_parameters()]}


def test_logits_are_computed_at_answer_positions_alone(model, collator):
    seen = []
    model.backbone.get_output_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].shape))
    examples = [make_example(task, n) for task in TASKS for n in range(3)]
    batch = collator.training(examples, [1.0] * len(examples), slots=False)
    model(batch)
    assert seen == [(len(batch.answer_targets), 32)]
    assert len(batch.answer_targets) < batch.input_ids.numel() / 5


def test_every_fusion_config_builds_and_an_unknown_one_is_named():
    from ckf.config.schema import FusionConfig
    from ckf.config.store import SCHEMAS

    for name, kind in SCHEMAS["fusion"].items():
        built = build_fusion(kind(name=name), CF_DIM, 32, 1.0)
        assert (built is None) == (name == "none")

    @dataclasses.dataclass
    class Other(FusionConfig):
        pass

    with pytest.raises(TypeError, match="Other"):
        build_fusion(Other(name="other"), CF_DIM, 32, 1.0)


def test_a_lora_target_that_is_not_there_is_a_config_error(backbone_folder: Path):
    from ckf.config.compose import compose
    from ckf.model.build import build_recommender

    exp, _ = compose(["lora.shared.target_modules=[qkv_proj]", "fusion=none"])
    with pytest.raises(ConfigError, match="qkv_proj"):
        build_recommender(exp, backbone_folder, None, TASKS)
