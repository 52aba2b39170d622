"""Tasks: the built-in six, and how a user's own is found. Everything special about one is in its file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from ckf.core.errors import ConfigError, Problem
from ckf.tasks.base import Metric, Task
from ckf.tasks.ctr import Ctr
from ckf.tasks.ctr_sampled import CtrSampled
from ckf.tasks.explain import Explain
from ckf.tasks.rating import Rating
from ckf.tasks.review import Review
from ckf.tasks.topk import TopK

BUILT_IN: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Ctr("ctr"),
            CtrSampled("ctr_sampled"),
            Rating("rating"),
            TopK("topk"),
            Explain("explain"),
            Review("review"),
        )
    }
)
"""The tasks of this package by name, in the order of tables."""
DEFAULT_TASK = next(iter(BUILT_IN))
"""The task of a row that names none."""


def load_task(name: str, target: str | None = None) -> Task:
    """The task of an entry of ``tasks``: a built-in one, or the user's own class (``module.Class``).

    Raises:
        ConfigError: no such task, or a target that is none.
    """
    if target is None:
        if name not in BUILT_IN:
            raise ConfigError([Problem("name", f"'{name}' is not a task; one of {', '.join(BUILT_IN)}")])
        return BUILT_IN[name]
    if name in BUILT_IN:
        raise ConfigError(
            [Problem("name", f"'{name}' is a built-in task; give the one of target={target} another name")]
        )
    module, dot, attribute = target.rpartition(".")
    if not (dot and module and attribute.isidentifier()):
        raise ConfigError([Problem("target", f"'{target}' is not a class with its module, e.g. my_tasks.ReturnVisit")])
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            [Problem("target", f"'{target}' cannot be imported ({error}); is its folder on PYTHONPATH?")]
        ) from None
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ConfigError([Problem("target", f"'{target}' is no subclass of ckf.tasks.base.Task")])
    return found(name)


def find_metric(key: str, tasks: Mapping[str, Task] = BUILT_IN) -> Metric | None:
    """The metric that a key of ``metrics.json`` (``cf/test/ctr/auc@warm_3``) or a bare name (``auc``) belongs to."""
    *path, name = key.split("/")
    named = [tasks[part] for part in path if part in tasks]
    for task in named or tasks.values():
        if (metric := task.find_metric(name)) is not None:
            return metric
    return None


__all__ = ["BUILT_IN", "DEFAULT_TASK", "Metric", "Task", "find_metric", "load_task"]
