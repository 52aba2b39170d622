"""Adapters: roles, ranks, and what they start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.checks import at_least, fraction


@dataclass
class LoraRoleConfig:
    """One role's adapters. Values left null are inherited from the ``lora`` node."""

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: list[str] = field(default_factory=list)

    def problems(self) -> Iterator[str]:
        """Check ranges."""
        yield from at_least("rank", self.rank, 1)
        if self.alpha is not None and self.alpha <= 0:
            yield f"alpha: must be above 0, got {self.alpha:g}"
        if self.dropout is not None:
            yield from fraction("dropout", self.dropout, open_top=True)
        if not self.target_modules:
            yield "target_modules: is empty; name at least one projection, e.g. [q_proj]"


@dataclass
class LoraConfig:
    """Low-rank adapters: a ``shared`` role for all tasks and a ``per_task`` role, one copy for each task."""

    name: str = MISSING
    rank: int = 16
    alpha: float = 64.0
    dropout: float = 0.0
    shared: LoraRoleConfig | None = None
    per_task: LoraRoleConfig | None = None

    def problems(self) -> Iterator[str]:
        """Check ranges, and that roles on one projection agree on dropout (they share its mask)."""
        yield from at_least("rank", self.rank, 1)
        if self.alpha <= 0:
            yield f"alpha: must be above 0, got {self.alpha:g}"
        yield from fraction("dropout", self.dropout, open_top=True)
        if self.shared and self.per_task:
            both = set(self.shared.target_modules) & set(self.per_task.target_modules)
            rates = {
                role.dropout if role.dropout is not None else self.dropout for role in (self.shared, self.per_task)
            }
            if both and len(rates) > 1:
                shared = ", ".join(sorted(both))
                yield f"per_task.dropout: must equal shared.dropout, since both roles adapt {shared}"

    @property
    def trains(self) -> bool:
        """Whether there is any adapter."""
        return self.shared is not None or self.per_task is not None
