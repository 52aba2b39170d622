"""Adapters on disk: ours come back, stock PEFT's come in, and what does not fit is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from ckf.core.errors import ArtifactError
from ckf.model.peft_io import load_adapter, load_adapters, read_adapter, records_backbone, save_adapters
from ckf.model.provenance import weights_content
from tests.conftest import TASKS, make_model
from tests.unit.model.families import load, recommender


def scores(model, collator, mixed) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(collator.training(mixed, [1.0] * len(mixed), slots=False))


def test_adapters_come_back_from_disk(model, collator, backbone_folder, tables, tmp_path, mixed):
    save_adapters(tmp_path, model.layers, model.adapters, "somewhere")
    fresh = make_model(backbone_folder, tables)
    for layer in fresh.layers.values():
        torch.nn.init.zeros_(layer.lora_b)
    assert (scores(fresh, collator, mixed) - scores(model, collator, mixed)).abs().max() > 1e-3
    load_adapters(tmp_path, fresh.layers, fresh.adapters)
    torch.testing.assert_close(scores(fresh, collator, mixed), scores(model, collator, mixed), atol=1e-6, rtol=0)


def stock_adapter(folder: Path, backbone: Path, name: str = "my-llama", **settings) -> Path:
    """An adapter as PEFT itself trains and saves one, for the role ``shared``."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(11)
    base = load("llama", backbone)
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["k_proj", "v_proj", "o_proj"], "task_type": "CAUSAL_LM"}
    stock = get_peft_model(base, LoraConfig(**{**options, **settings}))
    for key, parameter in stock.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.1)
    stock.peft_config["default"].base_model_name_or_path = f"someone/{name}"
    stock.save_pretrained(str(folder))
    return folder


def shared(model):
    return next(adapter for adapter in model.adapters if adapter.name == "shared")


def test_stock_pefts_adapter_comes_into_a_role(model, collator, backbone_folder, tmp_path, mixed):
    from peft import PeftModel

    folder = stock_adapter(tmp_path, backbone_folder)
    load_adapter(folder, model.layers, shared(model), "sha256:of these weights")
    for layer in model.layers.values():
        for task in TASKS:
            if task in [adapter.name for adapter in layer.adapters]:
                layer.weights_of(task)[1].detach().zero_()
    stock = PeftModel.from_pretrained(load("llama", backbone_folder), str(folder)).eval()
    batch = collator.training(mixed, [1.0] * len(mixed), slots=False)
    with torch.no_grad():
        logits = stock(input_ids=batch.input_ids).logits[batch.answer_rows, batch.answer_positions].log_softmax(-1)
    theirs = logits.gather(1, batch.answer_targets[:, None])[:, 0]
    torch.testing.assert_close(scores(model, collator, mixed), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"r": 2}, "its rank is 2, that of 'shared' is 4"),
        ({"lora_alpha": 4}, "it is scaled by 1, 'shared' by 2; set alpha 4 for that role"),
        ({"use_rslora": True}, "it is scaled by 4, 'shared' by 2; set alpha 16 for that role"),
        ({"target_modules": ["q_proj", "v_proj"]}, "its targets are q_proj, v_proj, those of 'shared' are k_proj, o_"),
        ({"layers_to_transform": [0]}, "it has nothing for model.layers.1.self_attn.k_proj: another backbone?"),
        ({"use_dora": True}, "use_dora is True; only a plain LoRA can be used"),
        ({"bias": "all"}, "bias is all; only a plain LoRA can be used"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is ['lm_head']; only a plain LoRA can be used"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is pissa, which changes the backbone's own weights"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is pissa_niter_4, which changes"),
        ({"init_lora_weights": "olora"}, "init_lora_weights is olora, which changes"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens is [5]; only a plain LoRA can be used"),
        ({"layer_replication": [(0, 1), (0, 2)]}, "layer_replication is [[0, 1], [0, 2]]; only a plain LoRA"),
    ],
    ids=str,
)  # fmt: skip
def test_one_that_does_not_fit_the_role_is_one_line(model, backbone_folder, tmp_path, settings, problem):
    folder = stock_adapter(tmp_path / "x", backbone_folder, **settings)
    before = [layer.lora_a.detach().clone() for layer in model.layers.values()]
    with pytest.raises(ArtifactError) as caught:
        load_adapter(folder, model.layers, shared(model))
    assert problem in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(a, layer.lora_a) for a, layer in zip(before, model.layers.values(), strict=True))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"a_setting_of_the_future": 3}, "a_setting_of_the_future is 3; only a plain LoRA can be used"),
        ({"a_setting_of_the_future": None}, None),
        ({"init_lora_weights": "gaussian", "lora_dropout": 0.3, "peft_version": "9"}, None),
        ({"qalora_group_size": 16}, None),
        ({"use_qalora": True}, "use_qalora is True; only a plain LoRA can be used"),
    ],
    ids=str,
)
def test_only_settings_that_are_known_to_be_plain_pass(backbone_folder, tmp_path, change, problem):
    folder = stock_adapter(tmp_path / "x", backbone_folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    if problem is None:
        assert read_adapter(folder).weights
        return
    with pytest.raises(ArtifactError) as caught:
        read_adapter(folder)
    assert problem in str(caught.value)


def test_an_adapter_belongs_to_weights_by_content_not_by_name(model, backbone_folder, tmp_path):
    """Other weights of the same name and shape are refused (TALLRec, issue 34); the same weights elsewhere are not."""
    from safetensors.torch import load_file, save_file

    elsewhere = Path(shutil.copytree(backbone_folder, tmp_path / "another name"))
    retrained = Path(shutil.copytree(backbone_folder, tmp_path / "v2" / backbone_folder.name))
    state = load_file(retrained / "model.safetensors")
    save_file({key: value + 1e-3 for key, value in state.items()}, retrained / "model.safetensors", {"format": "pt"})
    save_adapters(tmp_path / "a", model.layers, model.adapters, "base", weights_content(str(backbone_folder)))
    folder = tmp_path / "a" / "shared"
    for same in (str(backbone_folder), str(elsewhere), f"{elsewhere}/"):
        load_adapter(folder, model.layers, shared(model), weights_content(same))
    with pytest.raises(ArtifactError, match=r"trained on other weights \(sha256:\w+ of 'base'\) than this backbone's"):
        load_adapter(folder, model.layers, shared(model), weights_content(str(retrained)))
    load_adapter(folder, model.layers, shared(model), None)
    assert records_backbone(folder)
    plain = stock_adapter(tmp_path / "plain", backbone_folder)
    assert not records_backbone(plain)
    load_adapter(plain, model.layers, shared(model), weights_content(str(retrained)))


def test_one_for_another_backbone_is_refused_by_shape(model, backbone_folder, checkpoint, tables, tmp_path):
    folder = stock_adapter(tmp_path / "x", backbone_folder)
    other = recommender("llama", checkpoint("llama"), tables)  # three layers, two heads of keys
    with pytest.raises(ArtifactError, match=r"it has nothing for model\.layers\.2"):
        load_adapter(folder, other.layers, shared(other))
    for target in ("k_proj", "v_proj", "o_proj"):
        other.layers.pop(f"model.layers.2.self_attn.{target}")
    with pytest.raises(ArtifactError, match=r"maps 32 to 32 features, here it is 32 to 16: another backbone\?"):
        load_adapter(folder, other.layers, shared(other))


def test_missing_or_broken_files_are_one_line(tmp_path, backbone_folder, model):
    with pytest.raises(ArtifactError, match=r"no such file; the run has no adapter 'shared'"):
        load_adapters(tmp_path, model.layers, model.adapters)
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors: no such file; an adapter is a folder with"):
        read_adapter(tmp_path)
    folder = stock_adapter(tmp_path / "x", backbone_folder)
    (folder / "adapter_model.safetensors").write_bytes(b"{}")
    with pytest.raises(ArtifactError, match="not a safetensors file") as caught:
        read_adapter(folder)
    assert "\n" not in str(caught.value)
    folder = stock_adapter(tmp_path / "y", backbone_folder)
    card = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**card, "peft_type": "IA3"}))
    with pytest.raises(ArtifactError, match="peft_type is IA3; only LORA"):
        read_adapter(folder)


def test_nan_is_refused(model, backbone_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = stock_adapter(tmp_path, backbone_folder)
    state = load_file(folder / "adapter_model.safetensors")
    state[sorted(state)[-1]][0, 0] = float("nan")
    save_file(state, folder / "adapter_model.safetensors")
    before = [layer.lora_a.detach().clone() for layer in model.layers.values()]
    with pytest.raises(ArtifactError, match="hold NaN or infinity"):
        load_adapter(folder, model.layers, shared(model))
    assert all(torch.equal(a, layer.lora_a) for a, layer in zip(before, model.layers.values(), strict=True))


def test_adapters_to_start_from_count_by_content(backbone_folder, tmp_path):
    """A run is named by what its adapters hold, not by where they lie: moved they are the same, changed another."""
    from ckf.config.compose import compose
    from ckf.pipeline.artifacts import content_key
    from ckf.runs.folder import run_folder

    def named(folder: Path) -> str:
        exp, _ = compose([f"lora.init=[{{role: shared, path: {folder}}}]"])
        return run_folder(content_key(exp), "data").name

    folder = stock_adapter(tmp_path / "x", backbone_folder)
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert named(moved) == named(folder)
    weights = moved / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert named(moved) != named(folder)
    weights.unlink()
    with pytest.raises(ArtifactError, match=r"lora\.init\[0\]: .*adapter_model\.safetensors: no such file; an adapter"):
        named(moved)
