"""Compose a run's config from overrides, and refuse a wrong one with all of its problems at once."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hydra import compose as hydra_compose
from hydra import initialize
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ckf.config import registry as store
from ckf.config.option_groups import Groups, conf_dir, load_groups
from ckf.config.overrides import Overrides, assign_all, read_overrides
from ckf.config.renamed import renamed_key, renamed_option
from ckf.config.rules.model import backbone_file_problems
from ckf.config.schema import ExperimentConfig
from ckf.config.serialization import load_yaml, to_yaml, with_overrides
from ckf.config.validate import validate
from ckf.core.errors import ConfigError, Problem, first_line

__all__ = [
    "Composed",
    "compose",
    "compose_with_notes",
    "load_yaml",
    "to_yaml",
    "with_overrides",
]


_PRIMARY = "ckf_config"
"""Hydra's name of conf/config.yaml: a file config.yaml in a user's folder must not replace it."""


class ImpliedOptions(NamedTuple):
    """When ``group`` is ``option``, ``then`` is chosen too, except for groups that the user chose himself.

    Options in ``keep`` fit already (a preset chose them) and stay.
    """

    group: str
    option: str
    then: dict[str, str]
    why: str
    keep: tuple[str, ...] = ()


IMPLIED = (
    ImpliedOptions(
        "backbone",
        "none",
        {"lora": "none", "fusion": "none", "curriculum": "text_only"},
        "there is no language model to adapt",
    ),
    ImpliedOptions("fusion", "none", {"curriculum": "text_only"}, "there is nothing to fuse", keep=("none",)),
    ImpliedOptions("fusion", "soft_prompt", {"prompts": "soft_prompt"}, "free vectors have a slot of their own"),
    ImpliedOptions(
        "fusion",
        "binary",
        {"prompts": "text_codes", "curriculum": "joint"},
        "adapters must learn to read the codes",
        keep=("two_stage",),
    ),
)


class Composed(NamedTuple):
    """A checked config: typed, as Hydra's node, the option of each group, and notes on implied choices."""

    exp: ExperimentConfig
    cfg: DictConfig
    choices: dict[str, str]
    notes: list[str]


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> tuple[ExperimentConfig, DictConfig]:
    """Return the checked config for these overrides, typed and as a DictConfig.

    ``config_dir`` is a user's own folder of options, added to the built-in ones.

    Raises:
        ConfigError: with one line for each problem.
    """
    composed = compose_with_notes(overrides, config_dir)
    return composed.exp, composed.cfg


def compose_with_notes(
    overrides: Sequence[str],
    config_dir: Path | None = None,
    *,
    fill_missing: bool = False,
    rules: bool = True,
) -> Composed:
    """Like `compose`, with the options chosen and notes on those that were implied.

    ``fill_missing`` and ``rules`` are for checking an option by itself: see `validate`.
    """
    groups = load_groups(config_dir)
    typed = read_overrides(overrides, groups)
    cfg, choices = _compose_good_options(typed, groups)
    implied, notes = _implied(choices, {*typed.choices, *typed.refused})
    if implied:
        cfg, choices = _compose_options(typed.choices | implied, groups)
    for key, line in assign_all(cfg, typed.values, groups.options).items():
        typed.refuse(key, line)
    exp, problems = validate(cfg, refused=typed.refused, fill_missing=fill_missing, rules=rules)
    if exp is not None and rules:
        problems = [*problems, *backbone_file_problems(exp)]
    if typed.problems or problems or exp is None:
        raise ConfigError([*typed.problems, *problems])
    return Composed(exp, cfg, choices, notes)


def _compose_good_options(typed: Overrides, groups: Groups) -> tuple[DictConfig, dict[str, str]]:
    """Compose the chosen options; one with a faulty file is refused and left out, to find further faults."""
    try:
        return _compose_options(typed.choices, groups)
    except ConfigError as error:
        for group, option in list(typed.choices.items()):
            try:
                _compose_options({group: option}, groups)
            except ConfigError as fault:
                del typed.choices[group]
                for problem in fault.problems:
                    typed.refuse(group, problem.within(f"{group}={option}"))
        if not typed.refused:
            raise error
        return _compose_options(typed.choices, groups)


def _compose_options(choices: dict[str, str], groups: Groups) -> tuple[DictConfig, dict[str, str]]:
    """Let Hydra compose the chosen options alone; values follow one by one."""
    if groups.user_dir is not None:
        return _composed_by_hydra(choices, groups)
    cfg, used = _builtin_options(tuple(choices.items()))
    return copy.deepcopy(cfg), dict(used)


@functools.lru_cache(maxsize=64)
def _builtin_options(choices: tuple[tuple[str, str], ...]) -> tuple[DictConfig, dict[str, str]]:
    """Kept, since the trials of a sweep differ in values more than in options, and Hydra takes half a second."""
    return _composed_by_hydra(dict(choices), load_groups())


def _composed_by_hydra(choices: dict[str, str], groups: Groups) -> tuple[DictConfig, dict[str, str]]:
    store.register()
    folders = [conf_dir()] if groups.user_dir is None else [groups.user_dir.resolve(), conf_dir()]
    quoted = [str(folder).replace("\\", "\\\\").replace('"', '\\"') for folder in folders]
    # the first folder that has a file wins: tuned values of one's own come before the built-in ones
    paths = ",".join(f'"file://{folder}"' for folder in quoted)
    lines = [*(f"{group}={option}" for group, option in choices.items()), f"hydra.searchpath=[{paths}]"]
    try:
        ConfigStore.instance().store(name=_PRIMARY, node=OmegaConf.load(conf_dir() / "config.yaml"))
        with initialize(config_path=None, version_base="1.3"):
            cfg = hydra_compose(_PRIMARY, overrides=lines, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError([_renamed(error) or Problem("", _one_line(error))]) from error
    known = cfg.hydra.runtime.choices
    used = {group: str(known[group]) for group in groups.options if group in known}
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, used


def _renamed(error: BaseException | None) -> Problem | None:
    """Return the problem of a file that uses a key or option of an older version, or None."""
    while error is not None:
        key = getattr(error, "full_key", None)
        if key and (line := renamed_key(key)):
            return Problem(key, line)
        group, slash, option = (getattr(error, "missing_cfg_file", None) or "").partition("/")
        if slash and (line := renamed_option(group, option)):
            return Problem(group, line)
        error = error.__cause__ or error.__context__
    return None


def _one_line(error: BaseException) -> str:
    """Return a fault in a YAML file as one line; half of it is in the cause of Hydra's exception."""
    lines = [line.strip(" ^\t") for line in str(error).splitlines() if line.strip()]
    cause = error.__cause__
    if cause is not None and str(cause):
        lines.append(first_line(cause))
    unique = list(dict.fromkeys(lines))
    skipped = ("full_key:", "object_type=", "reference_type=")
    text = " ".join(line for line in unique if not line.startswith(skipped))
    return re.sub(r"\w+Error raised while composing config: ?", "", text)


def _implied(choices: dict[str, str], chosen: set[str]) -> tuple[dict[str, str], list[str]]:
    """Return the choices that follow from others, and one note for each change."""
    now, notes = dict(choices), []
    implied: dict[str, str] = {}
    for rule in IMPLIED:
        if now[rule.group] != rule.option:
            continue
        changes = {g: o for g, o in rule.then.items() if g not in chosen and now[g] not in (o, *rule.keep)}
        if changes:
            listed = " ".join(f"{g}={o}" for g, o in changes.items())
            notes.append(f"{rule.group}={rule.option}: {listed}, {rule.why}")
        implied |= changes
        now |= changes
    return implied, notes
