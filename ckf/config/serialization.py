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
from ckf.config.registry import SCHEMAS
from ckf.config.schema import ExperimentConfig
from ckf.config.validate import validate
from ckf.core.artifact_store import FORMAT, to_jsonable
from ckf.core.errors import ConfigError, Problem, first_line
from ckf.tasks import BUILT_IN

_UNNAMED = ("name", "seed", "method", "paths", "logger", "launcher", "search", "overwrite")
"""Keys that are not part of a run's fingerprint: labels, paths, and the seed (it follows the hash in names)."""


def to_yaml(exp: ExperimentConfig) -> str:
    """Return the resolved config as YAML, headed by its format number; `load_yaml` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.create({"format": FORMAT, **to_jsonable(exp)}))


def load_yaml(path: Path) -> ExperimentConfig:
    """Return the typed config of a run from its ``config.yaml``.

    Raises:
        ConfigError: the file is missing or broken, of another format, or does not fit the schema.
    """
    try:
        raw = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError([Problem(str(path), "no such file")]) from None
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise ConfigError([Problem(str(path), f"not a readable config ({reason})")]) from None
    if not isinstance(raw, dict) or not raw:
        raise ConfigError([Problem(str(path), "not a readable config (it holds no keys)")])
    found = raw.pop("format", 1)  # the first format did not name itself
    if found != FORMAT:
        raise ConfigError(
            [Problem(str(path), f"is of format {found}; this version of ckf reads format {FORMAT}, run it again")]
        )
    cfg = OmegaConf.structured(ExperimentConfig)
    for group in SCHEMAS:
        setattr(cfg, group, OmegaConf.structured(_class_of(group, raw.get(group), path)))
    faults = assign_all(cfg, {str(key): value for key, value in raw.items()})
    if faults:
        shown = "; ".join(map(str, faults.values()))
        raise ConfigError([Problem(str(path), f"written by another version of ckf: {shown}")])
    return _checked(cfg, str(path))


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
    raise ConfigError([Problem(str(path), f"{group}: no option of this version fits (one of {', '.join(options)})")])


def with_overrides(
    exp: ExperimentConfig, overrides: Sequence[str], allowed: tuple[str, ...] = ("evaluate.",)
) -> ExperimentConfig:
    """Return a run's config with some keys changed, e.g. ``evaluate.batch_size=8``.

    ``allowed`` holds the prefixes of keys that may change without it becoming another run.

    Raises:
        ConfigError: another key, or a wrong value.
    """
    typed = read_overrides(overrides, load_groups())
    sections = ", ".join(f"{prefix}*" for prefix in allowed)
    for key in [*typed.choices, *typed.values]:
        if not f"{key}.".startswith(allowed) or key in typed.choices:
            typed.refuse(key, Problem(key, f"belongs to the run and stays as it was; only {sections} can be set here"))
            typed.values.pop(key, None)
    cfg = OmegaConf.structured(exp)
    for key, line in assign_all(cfg, typed.values).items():
        typed.refuse(key, line)
    if typed.problems:
        raise ConfigError(typed.problems)
    return _checked(cfg, "")


def _checked(cfg: DictConfig, place: str) -> ExperimentConfig:
    exp, problems = validate(cfg)
    if problems or exp is None:
        raise ConfigError([problem.within(place) if place else problem for problem in problems])
    return exp


def fingerprint_payload(exp: ExperimentConfig) -> dict[str, Any]:
    """Return what names a run: every setting that can change its result, apart from the seed.

    Not in it: paths, the logger, worker counts, ``overwrite``, labels, and where the input files lie
    (they count by content, through the dataset's hash).
    """
    payload = {key: value for key, value in to_jsonable(exp).items() if key not in _UNNAMED}
    for key in ("root", "download", "memory_mb", "licence"):
        payload["dataset"].pop(key, None)
    payload["train"].pop("workers", None)
    mixed = {entry.name for entry in exp.tasks.mixture}
    for name, task in BUILT_IN.items():  # datasets do not name it, so only a mixture that lists it shows its wording
        if not task.listed_by_datasets and name not in mixed:
            payload["prompts"].pop(name)
    if not exp.fusion.fuses:  # so that runs with different slots share one text-only baseline
        payload["train"].pop("fusion_learning_rate", None)
        for name in BUILT_IN:
            payload["prompts"].get(name, {}).pop("slots", None)
    return payload
