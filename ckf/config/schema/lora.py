"""Adapters: roles, their ranks and targets, and what they start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, fraction
from ckf.core.errors import Problem


@dataclass
class LoraRoleConfig:
    """One role's adapters. What is null is inherited from ``lora``."""

    rank: int | None = None
    """Rank of the adapters."""
    alpha: float | None = None
    """Scale of the adapters, divided by the rank."""
    dropout: float | None = None
    """Share of the adapters' inputs that are dropped in training."""
    target_modules: list[str] = field(default_factory=list)
    """Projections that carry an adapter, e.g. [q_proj]."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from _range_problems(self.rank, self.alpha, self.dropout)
        if not self.target_modules:
            yield Problem("target_modules", "is empty; name at least one projection, e.g. [q_proj]")


@dataclass
class LoraTaskConfig:
    """One task's own values. What is null is inherited from ``lora.per_task``, then from ``lora``."""

    name: str = MISSING
    """Name of the task."""
    rank: int | None = None
    """Rank of the adapters."""
    alpha: float | None = None
    """Scale of the adapters, divided by the rank."""
    dropout: float | None = None
    """Share of the adapters' inputs that are dropped in training."""
    target_modules: list[str] | None = None
    """Projections that carry an adapter, e.g. [q_proj]."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from _range_problems(self.rank, self.alpha, self.dropout)
        if self.target_modules is not None and not self.target_modules:
            yield Problem("target_modules", "is empty; name at least one projection, or leave it null")


@dataclass
class LoraInitConfig:
    """A PEFT adapter on disk that a role starts from, instead of noise and zeros."""

    role: str = MISSING
    """``shared``, or the name of a task."""
    path: str = MISSING
    """Folder of the adapter."""
    same_backbone: bool = True
    """Whether an adapter that was trained on other weights is refused. A plain PEFT folder does not record them."""


@dataclass
class LoraConfig:
    """Low-rank adapters: a ``shared`` role for all tasks and a ``per_task`` role, one copy for each task."""

    name: str = MISSING
    """The option's name. It is part of a run's name."""
    rank: int = 16
    """Rank of the adapters."""
    alpha: float = 64.0
    """Scale of the adapters, divided by the rank."""
    dropout: float = 0.0
    """Share of the adapters' inputs that are dropped in training."""
    rslora: bool = False
    """Whether adapters are scaled by alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023)."""
    shared: LoraRoleConfig | None = None
    """The adapters that all tasks share. null for none."""
    per_task: LoraRoleConfig | None = None
    """The adapters of which each task has its own copy. null for none."""
    tasks: list[LoraTaskConfig] = field(default_factory=list)
    """Values of single tasks, e.g. [{name: ctr, rank: 4}]."""
    init: list[LoraInitConfig] = field(default_factory=list)
    """Adapters on disk to start from."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges, and that lists name each role once."""
        yield from _range_problems(self.rank, self.alpha, self.dropout)
        yield from _repeated("tasks", "name", [entry.name for entry in self.tasks])
        yield from _repeated("init", "role", [entry.role for entry in self.init])

    @property
    def trains(self) -> bool:
        """Whether there is any adapter."""
        return self.shared is not None or self.per_task is not None


def _range_problems(rank: int | None, alpha: float | None, dropout: float | None) -> Iterator[Problem]:
    yield from at_least("rank", rank, 1)
    if alpha is not None and alpha <= 0:
        yield Problem("alpha", f"must be above 0, got {alpha:g}")
    if dropout is not None:
        yield from fraction("dropout", dropout, open_top=True)


def _repeated(where: str, key: str, names: list[str]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(f"{where}[{index}].{key}", f"{name} is listed twice")
