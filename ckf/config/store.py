"""Which dataclass stands behind each option of each config group, and their registration with Hydra."""

from __future__ import annotations

import dataclasses
from typing import Any

from hydra.core.config_store import ConfigStore

from ckf.config import schema

SCHEMAS: dict[str, dict[str, type[Any]]] = {
    "dataset": {"synthetic": schema.SyntheticConfig, "collm_ml1m": schema.CollmConfig},
    "split": dict.fromkeys(("provided", "temporal", "leave_last_out"), schema.SplitConfig),
    "cf": {
        "bias": schema.BiasConfig,
        "popularity": schema.PopularityConfig,
        "itemknn": schema.ItemKNNConfig,
        "features": schema.FeaturesConfig,
        "mf": schema.MFConfig,
        "lightgcn": schema.LightGCNConfig,
        "sasrec": schema.SASRecConfig,
        "din": schema.DINConfig,
        "pretrained": schema.PretrainedConfig,
    },
    "backbone": {
        "tiny": schema.TinyBackboneConfig,
        "hf": schema.HFBackboneConfig,
        "none": schema.NoBackboneConfig,
    },
    "lora": dict.fromkeys(("multi", "shared", "none"), schema.LoraConfig),
    "fusion": {
        "none": schema.NoFusionConfig,
        "linear": schema.LinearFusionConfig,
        "meta": schema.MetaFusionConfig,
        "random": schema.RandomFusionConfig,
    },
    "tasks": dict.fromkeys(("auto", "all", *schema.TASKS), schema.TasksConfig),
    "prompts": {"default": schema.PromptsConfig},
    "curriculum": dict.fromkeys(("sigmoid", "joint", "text_only"), schema.CurriculumConfig),
    "trainer": dict.fromkeys(("cpu", "gpu", "ddp", "ddp_cpu"), schema.TrainerConfig),
    "logger": {"wandb": schema.WandbConfig, "csv": schema.CSVConfig},
}
"""Group -> option -> dataclass. ``method`` and ``size`` are presets over the whole tree: no schema."""

ROOT_SCHEMA = "_schema_experiment"


def schema_node(group: str, option: str) -> Any:
    """Return the option's dataclass with its ``name`` filled in, so that a user's own YAML inherits it."""
    cls = SCHEMAS[group][option]
    named = any(field.name == "name" for field in dataclasses.fields(cls))
    return cls(name=option) if named else cls()


def register() -> None:
    """Put every schema into Hydra's ConfigStore as ``<group>/_schema_<option>``; safe to repeat."""
    store = ConfigStore.instance()
    store.store(name=ROOT_SCHEMA, node=schema.ExperimentConfig)
    for group, options in SCHEMAS.items():
        for option in options:
            store.store(group=group, name=f"_schema_{option}", node=schema_node(group, option))
