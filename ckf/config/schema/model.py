"""CF models, fusion and curriculum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import MISSING

from ckf.config.schema.checks import at_least, fraction, one_of


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


@dataclass
class FusionConfig:
    """How CF vectors become slot embeddings."""

    name: str = MISSING
    tokens_per_slot: int = 1
    dropout: float = 0.0

    @property
    def fuses(self) -> bool:
        """Whether prompts have slots."""
        return True

    def problems(self) -> Iterator[str]:
        """Check ranges."""
        yield from at_least("tokens_per_slot", self.tokens_per_slot, 1)
        yield from fraction("dropout", self.dropout, open_top=True)


@dataclass
class NoFusionConfig(FusionConfig):
    """Text alone."""

    @property
    def fuses(self) -> bool:
        """No slots."""
        return False


@dataclass
class LinearFusionConfig(FusionConfig):
    """One linear map for users and one for items."""


@dataclass
class MetaFusionConfig(FusionConfig):
    """CKF: a meta-network reads the history and emits the user's own matrix."""

    meta_hidden: int = 32

    def problems(self) -> Iterator[str]:
        """Check ranges."""
        yield from super().problems()
        yield from at_least("meta_hidden", self.meta_hidden, 1)


@dataclass
class RandomFusionConfig(MetaFusionConfig):
    """The control: the map of ``meta`` on vectors shuffled over users and over items."""


@dataclass
class CurriculumConfig:
    """Weights of the text and the CF stream over the steps, and who learns from which."""

    name: str = MISSING
    apply: str = "loss"
    steepness: float = 8.0

    def problems(self) -> Iterator[str]:
        """Check the names."""
        yield from one_of("name", self.name, ("sigmoid", "joint", "text_only"))
        yield from one_of("apply", self.apply, ("loss", "lr"))
        if self.steepness <= 0:
            yield f"steepness: must be above 0, got {self.steepness:g}"
