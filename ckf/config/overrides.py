"""Overrides from the command line: read each by itself, apply each by itself, so that all faults are found.

Hydra stops at its first error. Here Hydra's parser reads one override at a time, and values are
assigned one at a time to a config that Hydra has composed from the chosen options.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ckf.config.option_groups import Groups, did_you_mean
from ckf.config.registry import SCHEMAS
from ckf.config.renamed import renamed_key
from ckf.config.schema import TaskConfig
from ckf.core.errors import Problem, first_line

_NOUNS = {int: "an int", float: "a number", bool: "true or false", str: "a string"}


@dataclasses.dataclass
class Overrides:
    """Overrides sorted into choices of options and values of keys; ``refused`` names the faulty keys."""

    choices: dict[str, str] = dataclasses.field(default_factory=dict)
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    refused: set[str] = dataclasses.field(default_factory=set)

    def refuse(self, key: str, problem: Problem) -> None:
        """Record a fault of ``key``."""
        self.problems.append(problem)
        self.refused.add(key)


def read_overrides(lines: Iterable[str], groups: Groups) -> Overrides:
    """Parse ``key=value`` lines; a later one wins over an earlier one of the same key."""
    found = Overrides()
    parser = OverridesParser.create()
    for line in lines:
        try:
            override = parser.parse_override(line)
        except HydraException as error:
            reason = first_line(error)
            found.problems.append(Problem(line, f"cannot be read ({reason}); put special characters in quotes"))
            continue
        key = override.key_or_group
        if not key:
            found.problems.append(Problem(line, "cannot be read (no key before '=')"))
        elif override.is_delete():
            found.refuse(key, Problem(line, "a key cannot be deleted; set it to another value"))
        elif override.package is not None:
            found.refuse(key, Problem(line, "an option cannot be put into another package with '@'"))
        elif override.is_sweep_override():
            found.refuse(key, Problem(line, "several values are a sweep; add -m"))
        elif key.split(".")[0] == "hydra" or key.startswith("hydra/"):
            found.refuse(key, Problem(key, "Hydra's own settings are not used; see ckf --help"))
        else:
            _sort_in(found, key, override.value(), groups)
    return found


def _sort_in(found: Overrides, key: str, value: Any, groups: Groups) -> None:
    # Hydra would read tasks=[ctr,topk] as two options of the group; here it is the weighted list.
    if key == "tasks" and isinstance(value, list):
        key = "tasks.mixture"
    if key not in groups.options or isinstance(value, dict):
        found.values.pop(key, None)  # so that the later one is also applied later
        found.values[key] = value
        return
    option = "null" if value is None else str(value)
    if problem := groups.problem(key, option):
        found.refuse(key, problem)
    else:
        found.choices[key] = option


# --- the keys of a config ---------------------------------------------------------------------


def without_none(hint: Any) -> Any:
    """Return the type of an optional field."""
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


def key_types(cls: type, node: DictConfig | None, prefix: str = "") -> dict[str, Any]:
    """Map every dotted key below ``cls`` to its type; variants are taken from the composed ``node``."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(cls).items():
        found[prefix + name] = hint
        inner = without_none(hint)
        if dataclasses.is_dataclass(inner):
            child = None
            if node is not None and not OmegaConf.is_missing(node, name):
                child = node[name]
            actual = OmegaConf.get_type(child) if child is not None else inner
            found |= key_types(typing.cast(type, actual), child, f"{prefix}{name}.")
    return found


def unknown_key(key: str, known: Iterable[str]) -> Problem:
    """Return the problem that refuses an unknown key, with its new name or the nearest known one."""
    if line := renamed_key(key):
        return Problem(key, line)
    known = list(known)
    group, _, rest = key.partition(".")
    owners = [
        option
        for option, cls in SCHEMAS.get(group, {}).items()
        if rest and rest.split(".")[0] in {field.name for field in dataclasses.fields(cls)}
    ]
    if owners and f"{group}.{rest.split('.')[0]}" not in known:
        return Problem(key, f"unknown key here; it belongs to {group}={', '.join(owners)}")
    parent, _, last = key.rpartition(".")
    siblings = did_you_mean(key, [k for k in known if k.rpartition(".")[0] == parent])
    same_name = next((f"; did you mean '{k}'?" for k in known if k.rpartition(".")[2] == last), "")
    nearest = siblings or same_name if parent else same_name or siblings
    return Problem(key, f"unknown key{nearest or did_you_mean(key, known)}")


# --- assigning values -------------------------------------------------------------------------


def assign_all(cfg: DictConfig, values: dict[str, Any], extra_keys: Iterable[str] = ()) -> dict[str, Problem]:
    """Assign each value; return a problem by key for those that were refused.

    ``extra_keys`` are further words to suggest (group names that are no keys).
    """
    cls = typing.cast(type, OmegaConf.get_type(cfg))
    known = key_types(cls, cfg)
    problems: dict[str, Problem] = {}
    for key, value in values.items():
        for problem in _assign(cfg, key, value, known, list(extra_keys)):
            problems[problem.key] = problem
    return problems


def _assign(cfg: DictConfig, key: str, value: Any, known: dict[str, Any], extra: list[str]) -> Iterator[Problem]:
    if key not in known:
        yield unknown_key(key, [*known, *extra])
        return
    hint = known[key]
    if value == "???":
        yield Problem(key, "required, has no value")
        return
    if hint == list[TaskConfig] and isinstance(value, list):  # tasks.mixture=[ctr] is short for [{name: ctr}]
        value = [{"name": item} if isinstance(item, str) else item for item in value]
    if isinstance(value, dict) and dataclasses.is_dataclass(without_none(hint)):
        for name, part in value.items():  # the same as setting its keys one by one
            yield from _assign(cfg, f"{key}.{name}", part, known, extra)
        return
    if faults := list(_list_faults(key, value, hint)):
        yield from faults
        return
    _fill_parents(cfg, key, known)
    try:
        OmegaConf.update(cfg, key, value, merge=True)
    except OmegaConfBaseException:
        yield wrong_type(key, value, hint)


def _fill_parents(cfg: DictConfig, key: str, known: dict[str, Any]) -> None:
    """Turn the nulls above ``key`` into empty nodes (lora=none lora.shared.rank=4): OmegaConf stops there."""
    parts = key.split(".")
    for depth in range(1, len(parts)):
        parent = ".".join(parts[:depth])
        if OmegaConf.select(cfg, parent) is None:
            OmegaConf.update(cfg, parent, OmegaConf.structured(without_none(known[parent])), merge=False)


def _list_faults(key: str, value: Any, hint: Any) -> Iterator[Problem]:
    """Check a list item by item: OmegaConf takes nested lists for strings, and stops at its first fault."""
    if typing.get_origin(without_none(hint)) is not list or not isinstance(value, list):
        return
    (item_type,) = typing.get_args(without_none(hint))
    for index, item in enumerate(value):
        place = f"{key}[{index}]"
        if dataclasses.is_dataclass(item_type):
            if not isinstance(item, dict):
                yield wrong_type(place, item, item_type)
                continue
            node = OmegaConf.structured(item_type)
            for problem in assign_all(node, item).values():
                hinted = problem.message.replace("did you mean '", f"did you mean '{place}.")
                yield Problem(f"{place}.{problem.key}", hinted)
        elif item_type in _NOUNS and (item is None or isinstance(item, (list, dict))):
            yield wrong_type(place, item, item_type)


def wrong_type(key: str, value: Any, hint: Any) -> Problem:
    """Return the problem that refuses a value of the wrong type."""
    inner = without_none(hint)
    shown = "null" if value is None else repr(value)
    if dataclasses.is_dataclass(inner):
        names = ", ".join(field.name for field in dataclasses.fields(inner))
        return Problem(key, f"{shown} is not a group of keys ({names})")
    noun = "a list, e.g. [a,b]" if typing.get_origin(inner) is list else _NOUNS.get(inner, str(inner))
    return Problem(key, f"{shown} is not {noun}{' or null' if inner is not hint else ''}")
