"""Random checkpoints of every supported family, with windows short enough that prompts outgrow them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ckf.config.schema import EAGER_ONLY
from ckf.model.backbone import load_backbone
from ckf.model.build import adapter_specs
from ckf.model.lora import AdapterRouting, inject_lora
from ckf.model.recommender import Recommender
from tests.conftest import LORA, TASKS, make_fusion

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "head_dim": 8,
    "initializer_range": 0.1,
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 8}),
    "qwen2": ("qwen2", {}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "layer_types": _MIXED}),
    "qwen3": ("qwen3", {}),
    "qwen3-window": ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "layer_types": _MIXED}),
    "gemma": ("gemma", {}),
    "gemma2": (
        "gemma2",
        {"sliding_window": 8, "layer_types": _MIXED, "query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0},
    ),
    "gemma3_text": ("gemma3_text", {"sliding_window": 8, "layer_types": _MIXED, "query_pre_attn_scalar": 8}),
}
"""Name of a checkpoint -> family and settings. Gemma 2's cap is low, so that leaving it out shows."""
WINDOWED = [kind for kind, (_, settings) in KINDS.items() if settings.get("sliding_window")]


def save_checkpoint(kind: str, tokenizer: Any, folder: Path, **settings: Any) -> Path:
    """Write a random checkpoint of a kind with this tokenizer's vocabulary."""
    from transformers import AutoConfig, AutoModelForCausalLM

    family, own = KINDS[kind]
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **{**SHAPE, **special, **own, **settings})
    torch.manual_seed(5)
    attention = attention_of(kind)
    AutoModelForCausalLM.from_config(config, attn_implementation=attention).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def attention_of(kind: str) -> str:
    return "eager" if KINDS[kind][0] in EAGER_ONLY else "sdpa"


def load(kind: str, folder: Path, **options: Any) -> Any:
    return load_backbone(folder, attention=attention_of(kind), **options)


def recommender(
    kind: str,
    folder: Path,
    tables: Any,
    lora: Any = LORA,
    fusion: str = "meta",
    fusion_options: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A recommender on a checkpoint, with random adapters (``B`` too)."""
    backbone = load(kind, folder, **options)
    routing = AdapterRouting()
    adapters = adapter_specs(lora, TASKS)
    torch.manual_seed(3)
    layers = inject_lora(backbone, adapters, TASKS, routing)
    for layer in layers.values():
        torch.nn.init.normal_(layer.lora_b, std=0.05)
    built = make_fusion(fusion, backbone.config.hidden_size, **(fusion_options or {}))
    if built is not None:
        built.fit_normalization(tables)
    return Recommender(backbone, layers, adapters, routing, built)
