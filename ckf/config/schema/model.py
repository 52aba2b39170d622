"""Backbones, adapters, fusion and curriculum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.checks import at_least, fraction, one_of


@dataclass
class BackboneConfig:
    """A causal language model, frozen."""

    name: str = MISSING
    dtype: str = "float32"

    def problems(self) -> Iterator[str]:
        """Check the dtype."""
        yield from one_of("dtype", self.dtype, ("float32", "bfloat16"))


@dataclass
class TinyBackboneConfig(BackboneConfig):
    """A small Llama with its own BPE vocabulary, pre-trained here on the training split's text."""

    hidden_size: int = 64
    layers: int = 2
    heads: int = 2
    intermediate_size: int = 192
    vocabulary: int = 3000

    def problems(self) -> Iterator[str]:
        """Check the shape."""
        yield from super().problems()
        for name in ("hidden_size", "layers", "heads", "intermediate_size"):
            yield from at_least(name, getattr(self, name), 1)
        yield from at_least("vocabulary", self.vocabulary, 300)
        if self.heads > 0 and self.hidden_size % (2 * self.heads):
            yield f"hidden_size: must be a multiple of 2 * heads ({2 * self.heads}), got {self.hidden_size}"


@dataclass
class HFBackboneConfig(BackboneConfig):
    """Any local folder or hub name that ``transformers`` can load as a causal language model."""

    path: str = MISSING
    revision: str | None = None
    trust_remote_code: bool = False
    attention: str = "sdpa"

    def problems(self) -> Iterator[str]:
        """Candidate scoring needs an attention that takes a mask."""
        yield from super().problems()
        yield from one_of("attention", self.attention, ("sdpa", "eager"))


@dataclass
class NoBackboneConfig(BackboneConfig):
    """No language model: the CF model's own predictions are the method."""


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
