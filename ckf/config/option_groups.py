"""The config groups and their options, as found in the packaged ``conf/`` and in a user's own folder."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from ckf.config.renamed import renamed_key, renamed_option
from ckf.core.errors import ConfigError, Problem

TUNED = "tuned"
"""Folder of values found for a CF model on a dataset (``tuned/<dataset>_<cf>.yaml``): no group, they are not chosen."""
DATASET_DEFAULTS = "dataset_defaults"
"""Folder of what a dataset sets in other groups (``dataset_defaults/<dataset>.yaml``): no group either."""


def conf_dir() -> Path:
    """Return the folder of the built-in options: in the installed package, or the checkout's ``conf/``."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parent / "conf"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known word, or nothing when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


@dataclass(frozen=True)
class Groups:
    """Every group with its options, and the option that is used when none is chosen."""

    options: dict[str, list[str]]
    defaults: dict[str, str]
    user_dir: Path | None = None

    def problem(self, group: str, option: str) -> Problem | None:
        """Return the problem that refuses ``option``, or None when the group has it."""
        known = self.options[group]
        if option in known:
            return None
        if line := renamed_option(group, option):
            return Problem(group, line)
        return Problem(group, f"'{option}' is not an option{did_you_mean(option, known)} (one of {', '.join(known)})")


def _options_below(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*/**/*.yaml")):
        group, *rest = path.relative_to(folder).with_suffix("").parts
        if group in (TUNED, DATASET_DEFAULTS):
            continue
        found.setdefault(group, []).append("/".join(rest))
    return found


def load_groups(user_dir: Path | None = None) -> Groups:
    """List the groups of the built-in options, with those of ``user_dir`` added.

    Raises:
        ConfigError: the folder is missing, holds an unknown group, or an option that exists already
            (Hydra would quietly take the built-in one).
    """
    builtin = _builtin(conf_dir())
    if user_dir is None:
        return builtin
    options = {group: list(names) for group, names in builtin.options.items()}
    _add_own(options, user_dir)
    return Groups(options, builtin.defaults, user_dir)


@functools.cache
def _builtin(folder: Path) -> Groups:
    """The built-in options, read once a process because every composed config needs them."""
    options = _options_below(folder)
    entries = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(entries, dict)
    defaults = {group: option for entry in entries["defaults"] if isinstance(entry, dict)
                for group, option in entry.items()}  # fmt: skip
    return Groups(dict(sorted(options.items(), key=lambda kv: list(defaults).index(kv[0]))), defaults)


def _add_own(options: dict[str, list[str]], user_dir: Path) -> None:
    if not user_dir.is_dir():
        raise ConfigError([Problem("--config-dir", f"{user_dir}: no such folder")])
    problems = []
    for group, names in _options_below(user_dir).items():
        if group not in options:
            reason = renamed_key(group) or f"not a config group{did_you_mean(group, options)}"
            problems.append(Problem("--config-dir", f"{user_dir / group}: {reason}"))
            continue
        for name in names:
            if name in options[group]:
                problems.append(
                    Problem(
                        "--config-dir",
                        f"{user_dir / group / name}.yaml: {group}={name} exists already; use another name",
                    )
                )
        options[group] = sorted({*options[group], *names})
    pairs = {f"{dataset}_{cf}" for dataset in options["dataset"] for cf in options["cf"]}
    for path in sorted((user_dir / TUNED).glob("*.yaml")):
        if path.stem not in pairs:
            near = did_you_mean(path.stem, pairs)
            problems.append(
                Problem("--config-dir", f"{path}: not the name of a dataset and a cf, as in collm_ml1m_mf{near}")
            )
    for path in sorted((user_dir / DATASET_DEFAULTS).glob("*.yaml")):
        if path.stem not in options["dataset"]:
            near = did_you_mean(path.stem, options["dataset"])
            problems.append(Problem("--config-dir", f"{path}: not the name of a dataset{near}"))
    if problems:
        raise ConfigError(problems)
