"""Models of a run's shape with random weights and any number of layers, to count parameters and to time steps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from ckf.config.schema import EmbeddingConfig, ExperimentConfig, HFBackboneConfig, TinyBackboneConfig
from ckf.core.errors import ArtifactError, first_line
from ckf.model.build import adapter_specs, build_fusion, slot_kinds
from ckf.model.lora import AdapterRouting, inject_lora
from ckf.model.recommender import Recommender
from ckf.model.tiny_backbone import tiny_config


def backbone_config(exp: ExperimentConfig, vocabulary: int) -> Any:
    """The ``transformers`` config of a run's backbone; the tiny one needs the size of the tokenizer's ``vocabulary``.

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
        raise ArtifactError(
            f"backbone.path: no config could be loaded from '{exp.backbone.path}' ({first_line(error)})"
        ) from None


def cf_width(exp: ExperimentConfig) -> int:
    """Width of the CF vectors that a config makes; 0 where none are read, or where only the tables tell."""
    if not exp.fusion.reads_vectors or not isinstance(exp.cf, EmbeddingConfig):
        return 0
    return exp.cf.dim + 1  # the last number is the bias


def build_dummy_recommender(
    exp: ExperimentConfig, config: Any, cf_dim: int, tasks: Sequence[str], device: str, layers: int | None = None
) -> Recommender:
    """A recommender of the run's shape on ``device`` ("meta": no memory), with the first ``layers`` of its layers."""
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
