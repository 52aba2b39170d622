"""Quantised backbones: asked for, refused where they cannot be, adapters and fusion trained on top."""

from __future__ import annotations

import pytest
import torch

from ckf.config.compose import compose
from ckf.core.errors import ArtifactError, ConfigError
from ckf.model.backbone import quantization_options
from tests.unit.model.families import recommender


def test_quantisation_without_its_package_or_a_gpu_is_one_line(monkeypatch):
    import ckf.model.backbone as module

    assert quantization_options("none", "bfloat16") == {}
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArtifactError, match=r"quantization=4bit: the package bitsandbytes is not .*ckf\[quant\]"):
        quantization_options("4bit", "bfloat16")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArtifactError, match="needs a CUDA device"):
        quantization_options("8bit", "bfloat16")
    with pytest.raises(ConfigError, match=r"backbone\.quantization: 8bit needs a GPU, but trainer\.accelerator is cpu"):
        compose(["backbone=qwen3_0_6b", "backbone.quantization=8bit"])
    compose(["backbone=qwen3_0_6b", "backbone.quantization=8bit", "trainer=gpu"])
    with pytest.raises(ConfigError, match=r"backbone\.quantization: 8bit weights cannot be cut over processes; use"):
        compose(["backbone=qwen3_0_6b", "backbone.quantization=8bit", "trainer=fsdp"])


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
def test_quantisation_asks_transformers_for_it(kind, monkeypatch):
    import ckf.model.backbone as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    options = quantization_options(kind, "bfloat16")
    assert options["device_map"] == {"": 1}
    chosen = options["quantization_config"]
    assert (chosen.load_in_4bit, chosen.load_in_8bit) == (kind == "4bit", kind == "8bit")
    assert kind == "8bit" or chosen.bnb_4bit_compute_dtype == torch.bfloat16


def test_lora_goes_on_a_quantised_layer():
    """As bitsandbytes' layers: a subclass of Linear whose packed weight has neither its shape nor its dtype."""
    from ckf.model.lora import AdapterRouting, AdapterSpec, MultiLoraLinear, inject_lora

    class Packed(torch.nn.Linear):
        def __init__(self, plain: torch.nn.Linear) -> None:
            super().__init__(plain.in_features, plain.out_features, bias=False, device="meta")
            self.plain = [plain]
            self.weight = torch.nn.Parameter(torch.zeros(12, 1, dtype=torch.uint8), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.plain[0](x).to(torch.bfloat16)

    plain = torch.nn.Linear(6, 4, bias=False)
    holder = torch.nn.Module()
    holder.q_proj = Packed(plain)
    routing = AdapterRouting()
    routing.route(torch.tensor([0, 1]))
    layers = inject_lora(holder, [AdapterSpec("a", 2, 4.0, 0.0, ("q_proj",))], ["a", "b"], routing)
    layer = layers["q_proj"]
    assert isinstance(layer, MultiLoraLinear)
    torch.nn.init.normal_(layer.lora_b)
    x = torch.randn(2, 3, 6, requires_grad=True)
    out = layer(x)
    assert out.dtype == torch.bfloat16
    with torch.no_grad():
        added = 2.0 * x[0] @ layer.lora_a.T @ layer.lora_b.T
        torch.testing.assert_close(out[0].float(), plain(x[0]) + added, atol=0.05, rtol=0.02)
        torch.testing.assert_close(out[1].float(), plain(x[1]), atol=0.05, rtol=0.02)
    out.float().sum().backward()
    assert layer.lora_a.grad.dtype == torch.float32
    assert layer.lora_a.grad.abs().sum() > 0


@pytest.mark.parametrize(("kind", "tolerance"), [("8bit", 0.05), ("4bit", 0.4)])
def test_a_quantised_backbone_trains_adapters_and_fusion(
    kind, tolerance, checkpoint, tables, collator, mixed, monkeypatch
):
    """bitsandbytes for real, on its slow CPU kernels: everything is as on a GPU but the device."""
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (pip install 'ckf[quant]')")
    import ckf.model.backbone as module

    batch = collator.training(mixed, [1.0] * len(mixed), slots=True)
    plain = recommender("llama", checkpoint("llama"), tables, dtype="bfloat16")(batch).mean().item()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    options = quantization_options(kind, "bfloat16") | {"device_map": {"": "cpu"}}
    monkeypatch.undo()
    monkeypatch.setattr(module, "quantization_options", lambda *_: options)
    model = recommender("llama", checkpoint("llama"), tables, dtype="bfloat16", quantization=kind)
    wanted = bnb.nn.Linear8bitLt if kind == "8bit" else bnb.nn.Linear4bit
    assert all(isinstance(layer.base, wanted) for layer in model.layers.values())
    scores = model(batch)
    scores.sum().backward()
    assert scores.mean().item() == pytest.approx(plain, abs=tolerance)
    trained = [*model.adapter_parameters(), *model.fusion_parameters()]
    assert {p.grad.dtype for p in trained} == {torch.float32}
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in trained)
    assert not any(p.requires_grad for p in model.backbone.parameters() if not any(p is t for t in trained))
