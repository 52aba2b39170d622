"""The dataclass of each option of each config group, and their registration with Hydra."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from hydra.core.config_store import ConfigStore

from ckf.config import schema
from ckf.tasks import BUILT_IN

BACKBONE_PRESETS = (
    "qwen3_0_6b", "qwen3_1_7b", "qwen2_5_1_5b", "llama3_2_1b", "llama3_1_8b", "llama2_7b", "vicuna_7b",
    "mistral_7b", "gemma3_1b",
)  # fmt: skip

SCHEMAS: dict[str, dict[str, type[Any]]] = {
    "dataset": {
        "synthetic": schema.SyntheticConfig,
        **dict.fromkeys(("collm_ml1m", "collm_book"), schema.CollmConfig),
        **dict.fromkeys(("csv", "parquet", "implicit"), schema.TabularConfig),
        **dict.fromkeys(("amazon", "amazon_books", "amazon_movies"), schema.AmazonConfig),
        **dict.fromkeys(("ml100k", "ml1m", "ml10m", "ml20m", "ml25m", "ml32m"), schema.MovieLensConfig),
        "ml_latest": schema.MovieLensLatestConfig,
        "recbole": schema.RecboleConfig,
        "processed_json": schema.ProcessedJsonConfig,
    },
    "split": dict.fromkeys(("provided", "temporal", "leave_last_out", "user_cold", "item_cold"), schema.SplitConfig),
    "cf": {
        "bias": schema.BiasConfig,
        "popularity": schema.PopularityConfig,
        "itemknn": schema.ItemKNNConfig,
        "features": schema.FeaturesConfig,
        **dict.fromkeys(("mf", "mf_plus"), schema.MFConfig),
        **dict.fromkeys(("lightgcn", "lightgcn_plus"), schema.LightGCNConfig),
        **dict.fromkeys(("sasrec", "sasrec_plus"), schema.SASRecConfig),
        **dict.fromkeys(("din", "din_plus"), schema.DINConfig),
        "pretrained": schema.PretrainedConfig,
    },
    "backbone": {
        "tiny": schema.TinyBackboneConfig,
        "hf": schema.HFBackboneConfig,
        "none": schema.NoBackboneConfig,
        **dict.fromkeys(BACKBONE_PRESETS, schema.HFBackboneConfig),
    },
    "lora": dict.fromkeys(("multi", "shared", "per_task", "none"), schema.LoraConfig),
    "fusion": {
        "none": schema.NoFusionConfig,
        "linear": schema.LinearFusionConfig,
        "mlp": schema.MLPFusionConfig,
        "meta": schema.MetaFusionConfig,
        "meta_attention": schema.MetaAttentionFusionConfig,
        "random": schema.RandomFusionConfig,
        "soft_prompt": schema.SoftPromptFusionConfig,
        "binary": schema.BinaryFusionConfig,
        "custom": schema.CustomFusionConfig,
    },
    "tasks": dict.fromkeys(("auto", "all", *BUILT_IN), schema.TasksConfig),
    "prompts": dict.fromkeys(
        ("slots_late", "slots_early", "slots_pair", "soft_prompt", "text_codes"), schema.PromptsConfig
    ),
    "curriculum": {
        "sigmoid": schema.SigmoidCurriculumConfig,
        "two_stage": schema.TwoStageCurriculumConfig,
        "joint": schema.JointCurriculumConfig,
        "text_only": schema.TextOnlyCurriculumConfig,
        "none": schema.NoCurriculumConfig,
    },
    "trainer": dict.fromkeys(("cpu", "gpu", "ddp", "ddp_cpu", "fsdp"), schema.TrainerConfig),
    "logger": {"wandb": schema.WandbConfig, "csv": schema.CSVConfig},
    "launcher": {"local": schema.LocalLauncherConfig, "slurm": schema.SlurmLauncherConfig},
    "search": {"grid": schema.GridSearchConfig, "optuna": schema.OptunaSearchConfig},
}
"""Group -> option -> dataclass. ``method`` and ``size`` are presets over the whole tree: no schema."""

ROOT_SCHEMA = "_schema_experiment"


def schema_node(group: str, option: str) -> Any:
    """Return the option's dataclass with its ``name`` filled in, so that a user's own YAML inherits it."""
    cls = SCHEMAS[group][option]
    named = any(field.name == "name" for field in dataclasses.fields(cls))
    return cls(name=option) if named else cls()


@functools.cache
def register() -> None:
    """Put every schema into Hydra's ConfigStore as ``<group>/_schema_<option>``; once, the store is the process's."""
    store = ConfigStore.instance()
    store.store(name=ROOT_SCHEMA, node=schema.ExperimentConfig)
    for group, options in SCHEMAS.items():
        for option in options:
            store.store(group=group, name=f"_schema_{option}", node=schema_node(group, option))
