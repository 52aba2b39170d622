"""Backbones that cannot be used are refused in one line."""

from __future__ import annotations

import json

import pytest

from ckf.config.compose import compose
from ckf.core.errors import ArtifactError, ConfigError
from ckf.model.backbone import load_backbone, load_tokenizer
from tests.unit.model.families import save_checkpoint


def test_a_family_that_is_not_supported_is_refused_by_name(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)).save_pretrained(str(tmp_path))
    with pytest.raises(ArtifactError, match=r"family 'gpt2', which is not supported; supported: llama, mistral, .*gem"):
        load_backbone(tmp_path)


def test_attention_that_cannot_cap_is_refused_for_gemma2(checkpoint):
    with pytest.raises(ArtifactError, match=r"backbone\.attention: family 'gemma2' caps .* backbone\.attention=eager"):
        load_backbone(checkpoint("gemma2"))


def test_what_a_folders_card_tells_is_refused_when_the_config_is_composed(checkpoint, tmp_path):
    """Before any data is read, not after the CF model is trained."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    for folder, line in (
        (checkpoint("gemma2"), r"backbone\.attention: sdpa, but family 'gemma2' caps .* use backbone\.attention=eager"),
        (tmp_path, r"backbone\.path: '.*' is of family 'gpt2', which is not supported; supported: llama, mistral"),
    ):
        with pytest.raises(ConfigError, match=line):
            compose(["backbone=hf", f"backbone.path={folder}"])
    compose(["backbone=hf", f"backbone.path={checkpoint('gemma2')}", "backbone.attention=eager"])
    (tmp_path / "config.json").write_text("[")
    compose(["backbone=hf", f"backbone.path={tmp_path}"])


def test_attention_without_masks_is_refused_before_anything_is_read():
    with pytest.raises(ConfigError) as caught:
        compose(["backbone=hf", "backbone.path=x", "backbone.attention=flash_attention_2"])
    (line,) = str(caught.value).splitlines()
    assert line.startswith("backbone.attention: 'flash_attention_2' cannot take the mask")
    assert line.endswith("one of sdpa, eager")


def test_a_backbone_that_attends_both_ways_is_refused(backbone_folder, tmp_path):
    folder = save_checkpoint("gemma3_text", load_tokenizer(backbone_folder), tmp_path, use_bidirectional_attention=True)
    with pytest.raises(ArtifactError, match="attends in both directions"):
        load_backbone(folder)


def test_incomplete_weights_are_not_filled_with_noise(backbone_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save_checkpoint("llama", load_tokenizer(backbone_folder), tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"incomplete: 1 tensors are missing, the first is model\.layers\.1\.mlp"):
        load_backbone(folder)


def test_code_beside_the_weights_is_not_run(backbone_folder, tmp_path):
    folder = save_checkpoint("llama", load_tokenizer(backbone_folder), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass OwnConfig: pass\n")
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}})
    )
    with pytest.raises(ArtifactError, match=r"backbone\.path: no model could be loaded") as caught:
        load_backbone(folder)
    assert "\n" not in str(caught.value)
    assert not ran.exists()
    assert not compose(["backbone=hf", "backbone.path=x"])[0].backbone.trust_remote_code


def test_nothing_to_load_is_one_line(tmp_path):
    for load_it in (load_backbone, load_tokenizer):
        with pytest.raises(ArtifactError, match=r"backbone\.path: no \w+ could be loaded") as caught:
            load_it(tmp_path)
        assert "\n" not in str(caught.value)
