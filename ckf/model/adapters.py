"""Adapters on disk, one folder a role, in PEFT's own format: stock PEFT loads them unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ckf.errors import ArtifactError
from ckf.model.lora import AdapterSpec, MultiLoraLinear

_FILE = "adapter_model.safetensors"


def save_adapters(
    folder: Path, layers: Mapping[str, MultiLoraLinear], adapters: Sequence[AdapterSpec], backbone: str
) -> None:
    """Write ``folder/<role>/`` for each adapter: ``adapter_config.json`` and ``adapter_model.safetensors``."""
    from peft import LoraConfig

    for adapter in adapters:
        target = folder / adapter.name
        target.mkdir(parents=True, exist_ok=True)
        state = {}
        for name, layer in layers.items():
            if adapter in layer.adapters:
                a, b = layer.weights_of(adapter.name)
                state[f"{_key(name)}.lora_A.weight"] = a.detach().cpu().contiguous()
                state[f"{_key(name)}.lora_B.weight"] = b.detach().cpu().contiguous()
        save_file(state, target / _FILE, metadata={"format": "pt"})
        LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules=list(adapter.target_modules),
            base_model_name_or_path=backbone,
            task_type="CAUSAL_LM",
            inference_mode=True,
        ).save_pretrained(str(target))


@torch.no_grad()
def load_adapters(folder: Path, layers: Mapping[str, MultiLoraLinear], adapters: Sequence[AdapterSpec]) -> None:
    """Read every adapter back into its place in the stacks.

    Raises:
        ArtifactError: a missing file, a missing tensor or one of another shape.
    """
    for adapter in adapters:
        path = folder / adapter.name / _FILE
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file; the run has no adapter '{adapter.name}'")
        state = load_file(path)
        for name, layer in layers.items():
            if adapter not in layer.adapters:
                continue
            for kind, weight in zip("AB", layer.weights_of(adapter.name), strict=True):
                key = f"{_key(name)}.lora_{kind}.weight"
                saved = state.get(key)
                if saved is None or saved.shape != weight.shape:
                    got = "missing" if saved is None else f"of shape {tuple(saved.shape)}"
                    raise ArtifactError(f"{path}: {key} is {got}, expected {tuple(weight.shape)}: another backbone?")
                weight.copy_(saved)


def _key(module: str) -> str:
    return f"base_model.model.{module}"
