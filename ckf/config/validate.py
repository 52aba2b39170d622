"""From a composed config to the typed tree: missing values, ranges of each node, rules across groups."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ckf.config.overrides import key_types, without_none
from ckf.config.rules.groups import cross_group_problems
from ckf.config.schema import ExperimentConfig
from ckf.core.errors import Problem, first_line

_EXAMPLES = {"root": "DIR", "path": "DIR"}
PLACEHOLDERS: dict[Any, Any] = {int: 1, float: 1.0, bool: False}


def validate(
    cfg: DictConfig, *, refused: Collection[str] = (), fill_missing: bool = False, rules: bool = True
) -> tuple[ExperimentConfig | None, list[Problem]]:
    """Return the typed tree and every problem that is left in it.

    A rule that concerns a key or group in ``refused`` is kept silent: it would judge a value that
    the user did not choose. ``fill_missing`` puts placeholders for missing values instead of
    reporting them; ``rules=False`` leaves out the rules across groups.
    """
    try:
        exp, missing = _fill(cfg)
    except OmegaConfBaseException as error:  # an interpolation that leads nowhere
        key = getattr(error, "full_key", None) or "config"
        return None, [Problem(key, first_line(error))]
    problems = [] if fill_missing else [_required(key) for key in missing]
    own = [problem for problem in _walk(exp) if problem.key not in missing]
    cross = list(cross_group_problems(exp)) if rules else []
    silent = {*refused, *missing}
    return exp, [*problems, *own, *(p for p in cross if not any(p.concerns(key) for key in silent))]


def _fill(cfg: DictConfig) -> tuple[ExperimentConfig, list[str]]:
    """Return the typed tree with placeholders for the missing values, and the missing keys."""
    missing = sorted(OmegaConf.missing_keys(cfg))
    filled = cfg.copy()
    known = key_types(ExperimentConfig, cfg)
    for key in missing:
        value = PLACEHOLDERS.get(without_none(known.get(key)), "PLACEHOLDER")
        OmegaConf.update(filled, re.sub(r"\[(\d+)\]", r".\1", key), value)
    exp = OmegaConf.to_object(filled)
    assert isinstance(exp, ExperimentConfig)
    return exp, missing


def _required(key: str) -> Problem:
    value = _EXAMPLES.get(key.rpartition(".")[2])
    return Problem(key, "required, has no value" + (f" (e.g. {key}={value})" if value else ""))


def _walk(node: Any, path: str = "") -> Iterator[Problem]:
    """Yield the problems of every node below the root (those of the root are the rules across groups)."""
    if isinstance(node, float) and not math.isfinite(node):
        yield Problem(str(path), f"must be a finite number, got {node}")
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _walk(item, f"{path}[{index}]")
    elif dataclasses.is_dataclass(node):
        if path and hasattr(node, "problems"):
            yield from (problem.below(path) for problem in node.problems())
        for field in dataclasses.fields(node):
            yield from _walk(getattr(node, field.name), f"{path}.{field.name}" if path else field.name)
