"""``ckf check``: check a config, or every option and sweep, and run nothing."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import Typed, Verb
from ckf.config.compose import compose_with_notes
from ckf.config.option_groups import load_groups
from ckf.core.errors import ConfigError

_PRESETS = ("method", "size")
"""Groups whose options must work as they are; others may need a partner (cf=bias wants fusion=none)."""


def call(typed: Typed) -> None:
    """Print that the config is accepted.

    Raises:
        ConfigError: with every problem.
    """
    if typed.check_all:
        print(check_all(typed.config_dir, Path("experiments")))
    else:
        print("config ok: " + " ".join(f"{group}={option}" for group, option in typed.compose().choices.items()))


def check_all(config_dir: Path | None, experiments: Path) -> str:
    """Compose everything there is; return a line with the counts.

    Values that an option leaves to the user (``dataset.root``) are filled with placeholders.

    Raises:
        ConfigError: with the problems of all options and sweeps, each under its name.
    """
    from ckf.sweep import check_trials, file_trials, load_sweep

    problems, checked = [], 0
    for group, options in load_groups(config_dir).options.items():
        for option in options:
            checked += 1
            try:
                compose_with_notes([f"{group}={option}"], config_dir, fill_missing=True, rules=group in _PRESETS)
            except ConfigError as error:
                problems += [problem.within(f"{group}={option}") for problem in error.problems]
    sweeps = sorted(experiments.glob("*/*.yaml"))
    for path in sweeps:
        try:
            check_trials(file_trials(load_sweep(path)), config_dir)
        except ConfigError as error:
            here = str(path)
            problems += [p if p.key.startswith(here) else p.within(here) for p in error.problems]
    if problems:
        raise ConfigError(problems)
    return f"config ok: {checked} options, {len(sweeps)} sweeps"


VERB = Verb(
    "check",
    "check the config and run nothing; --all: every option of every group, and every sweep of experiments/",
    call,
    composes=True,
    examples=("ckf check fusion=meta cf=lightgcn", "ckf check --all"),
)
