"""From a sweep file or a command line to trials, and the check of all of them before the first starts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig
from ckf.config.sweep_file import Sweep
from ckf.core.errors import ConfigError

OF_THE_SWEEP = ("launcher", "search")
"""Groups that say how a sweep is run; a trial does not have them."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: its overrides, the swept ones of them as its name, and the variant it belongs to."""

    name: str
    overrides: tuple[str, ...]
    variant: str = ""


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides that say how the sweep is run, and those of its trials."""
    own = [line for line in overrides if line.split("=")[0].split(".")[0] in OF_THE_SWEEP]
    return own, [line for line in overrides if line not in own]


def _written(value: Any) -> str:
    """Write a YAML value in the grammar of overrides; strings stand as they are."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value)


def file_trials(sweep: Sweep, extra: Sequence[str] = ()) -> list[Trial]:
    """Return the trials of a sweep file; ``extra`` overrides come after its own."""
    axes = [[f"{key}={_written(value)}" for value in values] for key, values in sweep.grid.items()]
    if not sweep.variants:
        return _product([*sweep.overrides, *extra], axes)
    return [
        Trial(f"{variant.name} {trial.name}", trial.overrides, variant.name)
        for variant in sweep.variants
        for trial in _product([*sweep.overrides, *variant.overrides, *extra], axes)
    ]


def expand(overrides: Sequence[str]) -> list[Trial]:
    """Return the trials of a command line: ``key=a,b``, ``key=choice(a,b)`` and ``key=range(1,4)`` are swept.

    Raises:
        ConfigError: an override that cannot be read, or a sweep without end (``interval``).
    """
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    problems: list[str] = []
    parser = OverridesParser.create()
    for line in overrides:
        try:
            override = parser.parse_override(line)
        except HydraException as error:
            problems.append(f"{line}: cannot be read ({str(error).splitlines()[0]})")
            continue
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(line)
        elif override.is_discrete_sweep() and "glob(" not in line:
            axes[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            problems.append(f"{line}: only lists, choice() and range() can be swept (interval() with search=optuna)")
    if problems:
        raise ConfigError(problems)
    return _product(fixed, list(axes.values()))


def _product(fixed: Sequence[str], axes: list[list[str]]) -> list[Trial]:
    return [Trial(" ".join(point) or "single run", (*fixed, *point)) for point in itertools.product(*axes)]


def check_trials(trials: Sequence[Trial], config_dir: Path | None = None) -> list[ExperimentConfig]:
    """Compose every trial, so that none is refused after hours; return their configs.

    Raises:
        ConfigError: each problem once, with the trials that have it.
    """
    found: dict[str, list[str]] = {}
    configs = []
    for trial in trials:
        try:
            configs.append(compose(trial.overrides, config_dir)[0])
        except ConfigError as error:
            for line in error.problems:
                found.setdefault(line, []).append(trial.name)
    if found:
        raise ConfigError([f"trial {_names(names, len(trials))}: {line}" for line, names in found.items()])
    return configs


def _names(names: list[str], total: int) -> str:
    if len(names) == total > 1:
        return f"'{names[0]}' and all others"
    return f"'{names[0]}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
