"""From a command line to trials, and the check of all trials before the first starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig
from ckf.config.sweep_file import Trial, grid_points
from ckf.core.errors import ConfigError, Problem, first_line

OF_THE_SWEEP = ("launcher", "search")
"""Groups that say how a sweep is run; a trial does not have them."""


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides that say how the sweep is run, and those of its trials."""
    own = [line for line in overrides if line.split("=")[0].split(".")[0] in OF_THE_SWEEP]
    return own, [line for line in overrides if line not in own]


def expand(overrides: Sequence[str]) -> list[Trial]:
    """Return the trials of a command line: ``key=a,b``, ``key=choice(a,b)`` and ``key=range(1,4)`` are swept.

    Raises:
        ConfigError: an override that cannot be read, or a sweep without end (``interval``).
    """
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    problems: list[Problem] = []
    parser = OverridesParser.create()
    for line in overrides:
        try:
            override = parser.parse_override(line)
        except HydraException as error:
            problems.append(Problem(line, f"cannot be read ({first_line(error)})"))
            continue
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(line)
        elif override.is_discrete_sweep() and "glob(" not in line:
            axes[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            problems.append(
                Problem(line, "only lists, choice() and range() can be swept (interval() with search=optuna)")
            )
    if problems:
        raise ConfigError(problems)
    return grid_points(fixed, list(axes.values()))


def check_trials(trials: Sequence[Trial], config_dir: Path | None = None) -> list[ExperimentConfig]:
    """Compose every trial, so that none is refused after hours; return their configs.

    Raises:
        ConfigError: each problem once, with the trials that have it.
    """
    found: dict[Problem, list[str]] = {}
    configs = []
    for trial in trials:
        try:
            configs.append(compose(trial.overrides, config_dir)[0])
        except ConfigError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(trial.name)
    if found:
        raise ConfigError([p.within(f"trial {_names(names, len(trials))}") for p, names in found.items()])
    return configs


def _names(names: list[str], total: int) -> str:
    if len(names) == total > 1:
        return f"'{names[0]}' and all others"
    return f"'{names[0]}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
