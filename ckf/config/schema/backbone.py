"""Backbones: the language model that is adapted, and how it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import MISSING

from ckf.config.schema.checks import at_least, one_of


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
