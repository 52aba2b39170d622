"""Arguments of ``prepare`` and ``inspect`` that are no config: taken off before the config is composed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckf.config.option_groups import did_you_mean
from ckf.config.schema import ExperimentConfig, NoBackboneConfig
from ckf.core.errors import ConfigError, Problem
from ckf.tasks import BUILT_IN

if TYPE_CHECKING:
    from ckf.cli.inspection import Request

SPLITS = ("train", "val", "test")
EXPORTS = ("processed_json", "jsonl")
_SCORED = [name for name, task in BUILT_IN.items() if not task.written]
_KEYS = {"prepare": ("export", "out"), "inspect": ("task", "n", "split", "slots", "example")}


@dataclass
class OwnArguments:
    """A verb's own arguments by key, and the config's overrides that are left."""

    verb: str
    values: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)

    def check(self, exp: ExperimentConfig) -> None:
        """Refuse what does not fit the config.

        Raises:
            ConfigError: a task that the dataset has no data for, or no tokenizer to inspect with.
        """
        if self.verb != "inspect":
            return
        problems, task = [], self.values.get("task")
        if isinstance(exp.backbone, NoBackboneConfig):
            problems.append(Problem("backbone=none", "has no tokenizer to inspect with; use backbone=tiny or hf"))
        if task and task not in exp.dataset.supported_tasks:
            problems.append(
                Problem(
                    "task", f"{task}, but dataset={exp.dataset.name} provides {', '.join(exp.dataset.supported_tasks)}"
                )
            )
        if problems:
            raise ConfigError(problems)

    def request(self) -> Request:
        """What is to be inspected."""
        from ckf.cli.inspection import Request

        slots = self.values.get("slots")
        return Request(
            task=self.values.get("task"),
            n=int(self.values.get("n", "3")),
            split=self.values.get("split", "train"),
            slots=None if slots is None else slots == "true",
            example=self.values.get("example"),
        )


def take_arguments(verb: str, overrides: Sequence[str]) -> OwnArguments:
    """Take a verb's own arguments off; ``split=train`` is one, ``split=temporal`` is the config's group.

    Raises:
        ConfigError: one line for each wrong value.
    """
    own, known = OwnArguments(verb), _KEYS.get(verb, ())
    for override in overrides:
        key, _, value = override.partition("=")
        if key in known and not (key == "split" and value not in SPLITS):
            own.values[key] = value
        else:
            own.overrides.append(override)
    problems = [Problem(key, "has no value") for key, value in own.values.items() if not value]
    problems += _faults(own.values)
    if problems:
        raise ConfigError(problems)
    return own


def _faults(values: dict[str, str]) -> list[Problem]:
    problems = []
    for key, allowed in (("task", _SCORED), ("slots", ("true", "false")), ("export", EXPORTS)):
        value = values.get(key)
        if value and value not in allowed:
            problems.append(
                Problem(key, f"'{value}' is not allowed{did_you_mean(value, allowed)} (one of {', '.join(allowed)})")
            )
    n = values.get("n")
    if n and (not n.isdecimal() or int(n) < 1):
        problems.append(Problem("n", f"'{n}' is not a number of examples (1 or more)"))
    if "out" in values and "export" not in values:
        problems.append(Problem("out", "belongs to export= (e.g. export=jsonl out=DIR)"))
    example, task = values.get("example"), values.get("task")
    if example and len(example.split("/")) != 3:
        problems.append(
            Problem("example", f"'{example}' is no example id; one reads task/split/user-item, e.g. ctr/test/12-7")
        )
    elif example and task and not example.startswith(f"{task}/"):
        problems.append(Problem("example", f"{example} is of another task than task={task}"))
    return problems
