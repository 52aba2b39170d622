"""Models of a run's shape with random weights, of any number of layers: to count parts and to time passes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ckf.config.schema import EmbeddingConfig, ExperimentConfig, HFBackboneConfig, TinyBackboneConfig
from ckf.core.errors import ArtifactError
from ckf.model.build import adapter_specs, build_fusion, slot_kinds
from ckf.model.lora import AdapterRouting, inject_lora
from ckf.model.recommender import Recommender
from ckf.model.tiny_backbone import tiny_config


def backbone_config(exp: ExperimentConfig, vocabulary: int) -> Any:
    """The ``transformers`` config of a run's backbone; ``vocabulary`` is the tokenizer's, for the tiny one.

    Raises:
        ArtifactError: there is no config at ``backbone.path``.
    """
    if isinstance(exp.backbone, TinyBackboneConfig):
        return tiny_config(exp.backbone, vocabulary)
    from transformers import AutoConfig

    assert isinstance(exp.backbone, HFBackboneConfig)
    try:
        return AutoConfig.from_pretrained(exp.backbone.path, revision=exp.backbone.revision)
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"backbone.path: no config could be loaded from '{exp.backbone.path}' ({first})") from None


def cf_width(exp: ExperimentConfig) -> int:
    """Width of the CF vectors that a config makes; 0 where nothing is read, or where only the tables know."""
    if not exp.fusion.reads_vectors or not isinstance(exp.cf, EmbeddingConfig):
        return 0
    return exp.cf.dim + 1  # the last number is the bias


def build_dummy_recommender(
    exp: ExperimentConfig, config: Any, cf_dim: int, tasks: Sequence[str], device: str, layers: int | None = None
) -> Recommender:
    """A recommender of the run's shape on ``device`` ("meta": sizes alone), with ``layers`` of its layers."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config)
    if layers is not None:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    dtype = getattr(torch, exp.backbone.dtype)
    with torch.random.fork_rng(), torch.device(device):
        attention = getattr(exp.backbone, "attention", "sdpa")
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
        model.requires_grad_(False)
        routing = AdapterRouting()
        adapters = adapter_specs(exp.lora, list(tasks))
        lora = inject_lora(model, adapters, tasks, routing)
        fusion = build_fusion(
            exp.fusion,
            cf_dim,
            model.config.hidden_size,
            1.0,
            slots=slot_kinds(exp, tasks),
            tasks=len(tasks),
            pair_bias=isinstance(exp.cf, EmbeddingConfig),
        )
    return Recommender(model, lora, adapters, routing, fusion)


def folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
