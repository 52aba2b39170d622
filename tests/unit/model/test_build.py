"""From config to model: what is trained, where logits are computed, presets, targets that are not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ckf.config.compose import compose
from ckf.core.errors import ConfigError
from ckf.model.build import build_fusion, build_recommender
from tests.conftest import CF_DIM, TASKS, make_example


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
    from ckf.config.registry import SCHEMAS
    from ckf.config.schema import FusionConfig

    for name, kind in SCHEMAS["fusion"].items():
        if name == "custom":  # docs/examples has one of its own (tests/docs)
            continue
        built = build_fusion(kind(name=name), CF_DIM, 32, 1.0)
        assert (built is None) == (name in ("none", "binary"))

    @dataclasses.dataclass
    class Other(FusionConfig):
        pass

    with pytest.raises(TypeError, match="Other"):
        build_fusion(Other(name="other"), CF_DIM, 32, 1.0)


def test_a_lora_target_that_is_not_there_is_a_config_error(backbone_folder: Path):
    for target, named in (("qkv_proj", "qkv_proj"), ("lm_head", "lm_head")):
        exp, _ = compose([f"lora.shared.target_modules=[{target}]", "fusion=none"])
        with pytest.raises(ConfigError, match=rf"no projection is called '{named}'; this backbone has down_proj"):
            build_recommender(exp, backbone_folder, None, TASKS)


PRESETS = [
    "qwen3_0_6b", "qwen3_1_7b", "qwen2_5_1_5b", "llama3_2_1b", "llama3_1_8b", "llama2_7b", "vicuna_7b", "mistral_7b",
    "gemma3_1b",
]  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_compose_with_a_hub_name_and_a_word_on_the_licence(preset):
    from ckf.config.option_groups import conf_dir

    exp, _ = compose([f"backbone={preset}", "trainer=gpu"])
    owner, _, name = exp.backbone.path.partition("/")
    assert owner
    assert name
    assert (exp.backbone.dtype, exp.backbone.trust_remote_code) == ("bfloat16", False)
    comment = (conf_dir() / f"backbone/{preset}.yaml").read_text().splitlines()[0]
    assert any(word in comment for word in ("Apache", "licence", "terms"))
