"""Build modules from the typed config; only this file of `ckf.model` depends on the config classes."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from ckf.cf.vectors.tables import VectorTables
from ckf.config.schema import (
    SLOTS,
    BinaryFusionConfig,
    CustomFusionConfig,
    EmbeddingConfig,
    ExperimentConfig,
    FusionConfig,
    HFBackboneConfig,
    LinearFusionConfig,
    LoraConfig,
    LoraRoleConfig,
    LoraTaskConfig,
    MetaAttentionFusionConfig,
    MetaFusionConfig,
    MLPFusionConfig,
    NoFusionConfig,
    RandomFusionConfig,
    SlotKind,
    SoftPromptFusionConfig,
)
from ckf.core.errors import ArtifactError, ConfigError, Problem
from ckf.model.backbone import checkpoint_activations, embedding_norm, load_backbone
from ckf.model.fusion import Fusion, LinearFusion, MetaAttentionFusion, MetaFusion, MLPFusion, SoftPromptFusion
from ckf.model.lora import SHARED, AdapterRouting, AdapterSpec, inject_lora
from ckf.model.peft_io import load_adapter
from ckf.model.recommender import Recommender

T = TypeVar("T")


def adapter_specs(cfg: LoraConfig, tasks: list[str]) -> list[AdapterSpec]:
    """Adapters of a run: ``shared`` and one for each task, with values inherited from the ``lora`` node."""
    roles: list[tuple[str, list[LoraRoleConfig | LoraTaskConfig]]] = [(SHARED, [cfg.shared])] if cfg.shared else []
    if cfg.per_task:
        own = {entry.name: entry for entry in cfg.tasks}
        roles += [(task, [own[task], cfg.per_task] if task in own else [cfg.per_task]) for task in tasks]
    return [
        AdapterSpec(
            name=name,
            rank=_inherited(cfg.rank, [node.rank for node in nodes]),
            alpha=_inherited(cfg.alpha, [node.alpha for node in nodes]),
            dropout=_inherited(cfg.dropout, [node.dropout for node in nodes]),
            target_modules=tuple(_inherited([], [node.target_modules for node in nodes])),
            rslora=cfg.rslora,
        )
        for name, nodes in roles
    ]


def _inherited(default: T, nearest_first: list[T | None]) -> T:
    return next((value for value in nearest_first if value is not None), default)


def build_fusion(
    cfg: FusionConfig,
    cf_dim: int,
    llm_dim: int,
    norm: float,
    *,
    slots: Sequence[SlotKind] = ("user", "item"),
    tasks: int = 1,
    pair_bias: bool = False,
) -> Fusion | None:
    """Build the fusion of a config for the kinds of slots in use; None where there is none.

    ``random`` is the map that it names, with tables that `ckf.assembly` shuffles; ``binary`` writes codes as text.
    ``norm`` is the norm of a word embedding.

    Raises:
        ConfigError: a custom fusion that cannot be imported.
    """
    if isinstance(cfg, SoftPromptFusionConfig):
        return SoftPromptFusion(
            tasks,
            llm_dim,
            embedding_norm=norm,
            tokens_per_slot=cfg.tokens_per_slot,
            dropout=cfg.dropout,
            match_embedding_norm=cfg.match_embedding_norm,
        )
    shared: dict[str, Any] = {
        "embedding_norm": norm,
        "slots": slots,
        "tokens_per_slot": cfg.tokens_per_slot,
        "dropout": cfg.dropout,
        "match_embedding_norm": cfg.match_embedding_norm,
        "item_projection": cfg.item_projection,
        "pair_bias": pair_bias,
    }
    match cfg:
        case NoFusionConfig() | BinaryFusionConfig():
            return None
        case LinearFusionConfig() | RandomFusionConfig(map="linear"):
            return LinearFusion(cf_dim, llm_dim, **shared)
        case MLPFusionConfig() | RandomFusionConfig(map="mlp"):
            return MLPFusion(cf_dim, llm_dim, hidden_factor=cfg.hidden_factor, **shared)
        case MetaAttentionFusionConfig() | RandomFusionConfig(map="meta_attention"):
            return MetaAttentionFusion(cf_dim, llm_dim, meta_hidden=cfg.meta_hidden, **shared)
        case CustomFusionConfig():
            return custom_fusion(cfg)(cf_dim, llm_dim, **shared, **_own_options(cfg))
        case MetaFusionConfig():
            return MetaFusion(cf_dim, llm_dim, meta_hidden=cfg.meta_hidden, **shared)
    raise TypeError(f"no fusion is built from {type(cfg).__name__}; add a case in ckf/model/build.py")


def custom_fusion(cfg: CustomFusionConfig) -> type[Fusion]:
    """Import the user's own fusion class.

    Raises:
        ConfigError: it cannot be imported, or is not a fusion.
    """
    module, _, name = cfg.target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            [Problem("fusion.target", f"'{cfg.target}' cannot be imported ({error}); is its folder on PYTHONPATH?")]
        ) from None
    if not (isinstance(found, type) and issubclass(found, Fusion)):
        raise ConfigError([Problem("fusion.target", f"'{cfg.target}' is no subclass of ckf.model.fusion.Fusion")])
    return found


def _own_options(cfg: CustomFusionConfig) -> dict[str, Any]:
    pairs = (line.partition("=") for line in cfg.options)
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def slot_kinds(exp: ExperimentConfig, tasks: Sequence[str]) -> tuple[SlotKind, ...]:
    """Kinds of slots in the prompts of these tasks, in the order of `SLOTS`."""
    wordings = [exp.prompts.of(exp.task_set[task]).slots for task in tasks]
    return tuple(kind for kind in SLOTS if any(f"<{kind}>" in wording for wording in wordings))


def init_adapters(model: Recommender, cfg: LoraConfig, weights: str | None) -> None:
    """Load the adapters of ``lora.init`` into their roles; ``weights`` is the content of the backbone.

    Raises:
        ArtifactError: one is missing, or made for another backbone, rank, scale or set of targets.
    """
    roles = {adapter.name: adapter for adapter in model.adapters}
    for index, entry in enumerate(cfg.init):
        try:
            load_adapter(Path(entry.path), model.layers, roles[entry.role], weights if entry.same_backbone else None)
        except ArtifactError as error:
            raise ArtifactError(f"lora.init[{index}]: {error}") from None


def build_recommender(
    exp: ExperimentConfig, backbone: Path | str, tables: VectorTables | None, tasks: list[str]
) -> Recommender:
    """Load the backbone and add adapters and fusion; new weights are drawn from ``exp.seed``.

    Raises:
        ConfigError: a LoRA target that the backbone does not have.
    """
    options = {}
    if isinstance(exp.backbone, HFBackboneConfig):
        options = {
            "revision": exp.backbone.revision,
            "trust_remote_code": exp.backbone.trust_remote_code,
            "attention": exp.backbone.attention,
            "quantization": exp.backbone.quantization,
        }
    model = load_backbone(backbone, dtype=exp.backbone.dtype, **options)  # type: ignore[arg-type]
    routing = AdapterRouting()
    if exp.train.gradient_checkpointing:
        checkpoint_activations(model, routing)
    adapters = adapter_specs(exp.lora, tasks)
    with torch.random.fork_rng():
        torch.manual_seed(exp.seed)
        try:
            layers = inject_lora(model, adapters, tasks, routing)
        except ValueError as error:
            raise ConfigError([Problem("", str(error))]) from None
        fusion = build_fusion(
            exp.fusion,
            tables.dim if tables is not None else 0,
            model.config.hidden_size,
            embedding_norm(model),
            slots=slot_kinds(exp, tasks),
            tasks=len(tasks),
            pair_bias=isinstance(exp.cf, EmbeddingConfig),  # the last dimension of their vectors is a bias
        )
        if fusion is not None and tables is not None:
            fusion.fit_normalization(tables)
    return Recommender(model, layers, adapters, routing, fusion)
