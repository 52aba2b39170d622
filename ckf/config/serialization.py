"""The config of a finished run: written, read back as the typed tree, and what of it names the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ckf.config.option_groups import load_groups
from ckf.config.overrides import assign_all, read_overrides
from ckf.config.registry import SCHEMAS, schema_node
from ckf.config.schema import ExperimentConfig
from ckf.config.validate import validate
from ckf.core.artifact_store import to_jsonable
from ckf.core.errors import ConfigError
from ckf.tasks import BUILT_IN

_LATER: dict[str, dict[str, Any]] = {
    "tasks": {"same_time": "auto", "negatives": "uniform", "protocol": "strict"},
    "dataset": {
        "default_cold_users_up_to": 0,
        "filters": [],
        "duplicates": "first",
        "like_threshold": 4.0,
        "rating_scale": [1.0, 5.0],
        "max_bad_rows": 0,
    },
    "split": {
        "val_from": None,
        "test_from": None,
        "train_months": None,
        "val_months": None,
        "test_months": None,
        "split_seed": 0,
        "cold_users_up_to": 0,
        "train_fraction": 1.0,
    },
    "train": {"vector_folds": 0},
    "noise": {"vectors": 0.0, "titles": 0.0, "shuffled_history": False, "noise_seed": 0},
    "evaluate": {
        "candidates": "listed",
        "retrieval": "cf",
        "rerank_items": 100,
        "protocols": [],
        "length_normalisation": "none",
        "text_decoding": "greedy",
        "text_tokens": 64,
        "text_seed": 0,
        "temperature": 1.0,
    },
}
"""Keys that came later, each with the value that says what was done before: at it, a run keeps its name."""
_LATER_GROUPS = {"launcher": "local", "search": "grid"}
"""Groups that came later, each with the option that says what was done before."""
_LATER_OF: dict[tuple[str, str], dict[str, Any]] = {
    ("cf", "lightgcn"): {"loss": "bce"},
    ("cf", "sasrec"): {"loss": "bce", "item_start": "random"},
    ("cf", "din"): {"loss": "bce"},
}
"""The same for one option of a group, by its name."""
_UNNAMED = ("name", "seed", "method", "paths", "logger", "launcher", "search", "force")
"""What does not tell one run from another: labels, places, and the seed (it stands beside the hash)."""


def to_yaml(exp: ExperimentConfig) -> str:
    """Return the resolved config as YAML; `load_yaml` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.create(to_jsonable(exp)))


def load_yaml(path: Path) -> ExperimentConfig:
    """Return the typed config of a run from its ``config.yaml``.

    Raises:
        ConfigError: the file is missing or broken, or another version of ckf wrote it.
    """
    try:
        raw = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError([f"{path}: not a readable config ({reason})"]) from None
    if not isinstance(raw, dict) or not raw:
        raise ConfigError([f"{path}: not a readable config (it holds no keys)"])
    cfg = OmegaConf.structured(ExperimentConfig)
    for group in SCHEMAS:
        node = schema_node(group, _LATER_GROUPS[group]) if group in _LATER_GROUPS and group not in raw else None
        setattr(cfg, group, OmegaConf.structured(node or _class_of(group, raw.get(group), path)))
    faults = assign_all(cfg, {str(key): value for key, value in raw.items()})
    if faults:
        shown = "; ".join(faults.values())
        raise ConfigError([f"{path}: written by another version of ckf: {shown}"])
    return _checked(cfg, f"{path}: ")


def _class_of(group: str, node: Any, path: Path) -> type:
    """Choose the dataclass of a group: by its ``name``, or by its keys where it has none."""
    options = SCHEMAS[group]
    classes = list(dict.fromkeys(options.values()))
    if len(classes) == 1:
        return classes[0]
    keys = set(node) if isinstance(node, dict) else set()
    if "name" in keys and node["name"] in options:
        return options[node["name"]]
    for cls in classes:
        if keys and keys == {field.name for field in dataclasses.fields(cls)}:
            return cls
    raise ConfigError([f"{path}: {group}: no option of this version fits (one of {', '.join(options)})"])


def with_overrides(
    exp: ExperimentConfig, overrides: Sequence[str], allowed: tuple[str, ...] = ("evaluate.",)
) -> ExperimentConfig:
    """Return a run's config with some keys changed, e.g. ``evaluate.batch_size=8``.

    ``allowed`` holds the prefixes of keys that may change without it becoming another run.

    Raises:
        ConfigError: another key, or a wrong value.
    """
    asked = read_overrides(overrides, load_groups())
    sections = ", ".join(f"{prefix}*" for prefix in allowed)
    for key in [*asked.choices, *asked.values]:
        if not f"{key}.".startswith(allowed) or key in asked.choices:
            asked.refuse(key, f"{key}: belongs to the run and stays as it was; only {sections} can be set here")
            asked.values.pop(key, None)
    cfg = OmegaConf.structured(exp)
    for key, line in assign_all(cfg, asked.values).items():
        asked.refuse(key, line)
    if asked.problems:
        raise ConfigError(asked.problems)
    return _checked(cfg, "")


def _checked(cfg: DictConfig, prefix: str) -> ExperimentConfig:
    exp, problems = validate(cfg)
    if problems or exp is None:
        raise ConfigError([prefix + line for line in problems])
    return exp


def fingerprint_payload(exp: ExperimentConfig) -> dict[str, Any]:
    """Return what names a run: every setting that can change its result, apart from the seed.

    Not in it: paths, the logger, worker counts, ``force``, labels, and where the input files lie
    (they count by content, through the dataset's hash).
    """
    payload = {key: value for key, value in to_jsonable(exp).items() if key not in _UNNAMED}
    for group, node in payload.items():
        if isinstance(node, dict):
            later = {**_LATER.get(group, {}), **_LATER_OF.get((group, str(node.get("name"))), {})}
            payload[group] = {key: value for key, value in node.items() if key not in later or value != later[key]}
    if set(payload["noise"]) <= {"noise_seed"}:  # nothing is spoiled
        del payload["noise"]
    for key in ("root", "download", "memory_mb", "licence"):
        payload["dataset"].pop(key, None)
    payload["train"].pop("workers", None)
    for entry in payload["tasks"]["mix"]:
        if entry["target"] is None:  # a built-in task is named by its name alone
            del entry["target"]
    mixed = {entry.name for entry in exp.tasks.mix}
    for name, task in BUILT_IN.items():  # datasets do not name it, so only a mix that lists it shows its wording
        if not task.listed_by_datasets and name not in mixed:
            payload["prompts"].pop(name)
    if not exp.fusion.fuses:  # so that runs with different slots share one text-only twin
        payload["train"].pop("fusion_learning_rate", None)
        for name in BUILT_IN:
            payload["prompts"].get(name, {}).pop("slots", None)
    return payload
