"""CF models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import MISSING

from ckf.config.schema.checks import at_least


@dataclass
class CFConfig:
    """A collaborative-filtering model."""

    name: str = MISSING

    @property
    def has_vectors(self) -> bool:
        """Whether the model has user and item vectors that a fusion can read."""
        return False


@dataclass
class BiasConfig(CFConfig):
    """Item mean + user mean, each shrunk towards the global mean with ``pseudo_counts`` (the floor)."""

    pseudo_counts: float = 5.0

    def problems(self) -> Iterator[str]:
        """Shrinkage cannot be negative."""
        yield from at_least("pseudo_counts", self.pseudo_counts, 0)


@dataclass
class MFConfig(CFConfig):
    """Matrix factorisation with biases, early-stopped on the validation split."""

    dim: int = 8
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    embedding_l2: float = 0.1
    epochs: int = 60
    patience_epochs: int = 6
    batch_size: int = 1024

    @property
    def has_vectors(self) -> bool:
        """MF has vectors."""
        return True

    def problems(self) -> Iterator[str]:
        """Ranges of the numbers."""
        yield from at_least("dim", self.dim, 1)
        yield from at_least("epochs", self.epochs, 1)
        yield from at_least("patience_epochs", self.patience_epochs, 1)
        yield from at_least("batch_size", self.batch_size, 1)
        yield from at_least("embedding_l2", self.embedding_l2, 0)
