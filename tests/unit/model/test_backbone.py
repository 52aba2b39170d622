"""Backbones that cannot be used are refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

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
    with pytest.raises(ConfigError, match=r"backbone\.path: '.*' holds no weights"):
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
        with pytest.raises(ArtifactError, match=r"backbone\.path: (no tokenizer could|'.*' holds no config)") as caught:
            load_it(tmp_path)
        assert "\n" not in str(caught.value)


def adapter_folder(whole: Path, folder: Path) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/base"}))
    return folder


def with_stray_adapter(whole: Path, folder: Path) -> Path:
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    return adapter_folder(whole, folder)


def without(*patterns: str) -> Callable[[Path, Path], Path]:
    def change(whole: Path, folder: Path) -> Path:
        shutil.copytree(whole, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*patterns))
        return folder

    return change


def gguf_file(whole: Path, folder: Path) -> Path:
    (folder / "model.gguf").write_bytes(b"GGUF" + bytes(60))
    return folder / "model.gguf"


UNUSABLE: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "absent": (lambda whole, folder: folder / "none" / "here", "no such file or folder"),
    "gguf": (gguf_file, "is a GGUF file; a folder with config.json, weights and tokenizer is needed"),
    "gguf-folder": (lambda whole, folder: gguf_file(whole, folder).parent, "holds model.gguf and no config.json"),
    "weights-file": (lambda whole, folder: whole / "model.safetensors", "is a file; a folder with config.json"),
    "adapter": (adapter_folder, "is a PEFT adapter of 'someone/base'; give it as lora.init[0].path"),
    "stray-adapter": (with_stray_adapter, "transformers would add that adapter to the frozen model"),
    "no-config": (without("config.json"), "holds no config.json"),
    "no-weights": (without("*.safetensors"), "holds no weights"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_path_that_is_no_backbone_is_refused_when_composed_and_when_loaded(kind, backbone_folder, tmp_path):
    change, problem = UNUSABLE[kind]
    path = change(backbone_folder, tmp_path)
    with pytest.raises(ConfigError) as composed:
        compose(["backbone=hf", f"backbone.path={path}"])
    with pytest.raises(ArtifactError) as loaded:
        load_backbone(path)
    for caught in (composed, loaded):
        assert str(caught.value).startswith("backbone.path: ")
        assert problem in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_serves_finished_runs_alone(backbone_folder, tmp_path):
    folder = without("tokenizer*")(backbone_folder, tmp_path)
    with pytest.raises(ConfigError, match=r"backbone\.path: '.*' holds no tokenizer \(one of tokenizer\.json"):
        compose(["backbone=hf", f"backbone.path={folder}"])
    with pytest.raises(ArtifactError, match=r"backbone\.path: no tokenizer could be loaded"):
        load_tokenizer(folder)
    load_backbone(folder)


@pytest.mark.parametrize("load_it", [load_backbone, load_tokenizer])
@pytest.mark.parametrize("name", ["no-one/no-such-model", "nosuchmodel"])
def test_a_hub_name_without_a_network_is_one_line_after_one_request(monkeypatch, name, load_it):
    import huggingface_hub

    asked = []

    def unreachable(url: str, **options: object) -> None:
        asked.append((url, options))
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    with pytest.raises(ArtifactError, match=r"nor in the hub's cache, and the hub cannot be reached \(Name or ser"):
        load_it(name)
    ((_, options),) = asked
    assert not options.get("retry_on_errors")
    assert 0 < options["timeout"] <= 10


def test_truncated_weights_are_one_line(backbone_folder, tmp_path):
    weights = without()(backbone_folder, tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"backbone\.path: no model could be loaded from") as caught:
        load_backbone(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_buffer_that_loading_leaves_undefined_is_refused(backbone_folder, monkeypatch):
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained

    def spoilt(*args: object, **options: object) -> object:
        model, report = original(*args, **options)
        next(iter(model.buffers())).fill_(float("nan"))
        return model, report

    load_backbone(backbone_folder)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", spoilt)
    with pytest.raises(ArtifactError, match=r"leaves the buffer \S+ with NaN or infinity"):
        load_backbone(backbone_folder)


def test_code_for_the_model_is_not_ignored_in_silence(backbone_folder, tmp_path):
    folder = without()(backbone_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    own = {**config, "auto_map": {"AutoModelForCausalLM": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(own))
    with pytest.raises(ArtifactError, match=r"brings code of its own for the model, which would be ignored"):
        load_backbone(folder)
