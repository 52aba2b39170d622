"""Fusion and curriculum: what CF knowledge becomes in the prompt, and when which part learns from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, fraction, one_of
from ckf.core.errors import Problem

MAPS = ("linear", "mlp", "meta", "meta_attention")
"""Fusions that map CF vectors into slots; the control runs any of them on shuffled tables."""


@dataclass
class FusionConfig:
    """How CF vectors become slot embeddings."""

    name: str = MISSING
    """The option's name. It is part of a run's name."""
    tokens_per_slot: int = 1
    """Embeddings that a slot holds."""
    dropout: float = 0.0
    """Share of a slot embedding's values that are dropped in training."""
    match_embedding_norm: bool = True
    """Whether slots start at the norm of the backbone's word embeddings. Off: torch's own initialisation."""
    item_projection: str = "shared"
    """``shared`` maps item vectors alike for all; ``personal`` passes them through the user's matrix as well."""

    @property
    def fuses(self) -> bool:
        """Whether there is a second prompt with more than text, and so a CF stream."""
        return True

    @property
    def reads_vectors(self) -> bool:
        """Whether CF vectors are needed."""
        return True

    @property
    def learns(self) -> bool:
        """Whether it has parameters of its own."""
        return True

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from at_least("tokens_per_slot", self.tokens_per_slot, 1)
        yield from fraction("dropout", self.dropout, open_top=True)
        yield from one_of("item_projection", self.item_projection, ("shared", "personal"))


@dataclass
class NoFusionConfig(FusionConfig):
    """Text alone."""

    @property
    def fuses(self) -> bool:
        """No slots."""
        return False

    @property
    def reads_vectors(self) -> bool:
        """No vectors."""
        return False

    @property
    def learns(self) -> bool:
        """No parameters."""
        return False


@dataclass
class LinearFusionConfig(FusionConfig):
    """One linear map for each kind of slot."""


@dataclass
class MLPFusionConfig(FusionConfig):
    """CoLLM's map: one hidden layer."""

    hidden_factor: int = 10
    """Width of the hidden layer, in widths of the CF vectors."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from super().problems()
        yield from at_least("hidden_factor", self.hidden_factor, 1)


@dataclass
class MetaFusionConfig(FusionConfig):
    """CKF: a meta-network reads the history and emits the user's own matrix."""

    meta_hidden: int = 32
    """Width of the meta-network's hidden layer."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from super().problems()
        yield from at_least("meta_hidden", self.meta_hidden, 1)


@dataclass
class MetaAttentionFusionConfig(MetaFusionConfig):
    """``meta`` with a history pooled by attention, a non-linear meta-network and a residual around the identity."""


@dataclass
class RandomFusionConfig(MetaFusionConfig):
    """The control: a map on vectors shuffled over users and over items."""

    map: str = "meta"
    """The map that is controlled for: ``linear``, ``mlp``, ``meta`` or ``meta_attention``."""
    hidden_factor: int = 10
    """As for ``fusion=mlp``, where ``map`` is ``mlp``."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges and the map's name."""
        yield from super().problems()
        yield from one_of("map", self.map, MAPS)
        yield from at_least("hidden_factor", self.hidden_factor, 1)


@dataclass
class CustomFusionConfig(FusionConfig):
    """A fusion of the user's own, called as the built-in ones are."""

    target: str = MISSING
    """A subclass of ``ckf.model.fusion.VectorFusion`` as ``module.Class``. Runs are named by this name, not by its
    code: give changed code another name."""
    options: list[str] = field(default_factory=list)
    """Further arguments, each ``key=value`` with the value read as YAML."""

    def problems(self) -> Iterator[Problem]:
        """The target must name a module and a class in it."""
        yield from super().problems()
        module, dot, name = self.target.rpartition(".")
        if not (dot and module and name.isidentifier()):
            yield Problem("target", f"'{self.target}' is not a class with its module, e.g. gated.GatedFusion")
        for index, line in enumerate(self.options):
            if not line.partition("=")[0].isidentifier():
                yield Problem(f"options[{index}]", f"'{line}' is not key=value, e.g. 'sharpness=2.0'")


@dataclass
class SoftPromptFusionConfig(FusionConfig):
    """Free vectors of each task in place of CF knowledge."""

    @property
    def reads_vectors(self) -> bool:
        """No vectors."""
        return False

    def problems(self) -> Iterator[Problem]:
        """There is no item side."""
        yield from super().problems()
        if self.item_projection != "shared":
            yield Problem("item_projection", f"soft prompts know no items; must be shared, got {self.item_projection}")


@dataclass
class BinaryFusionConfig(FusionConfig):
    """BinLLM: hashed codes of the CF vectors as text. There is nothing to map."""

    bits: int = 32
    """Bits of a code."""
    code: str = "dotted"
    """``plain`` digits, or ``dotted`` bytes as in an IP address, which need a multiple of 8 bits."""
    hash_seed: int = 0
    """Seed of the random projection."""

    @property
    def learns(self) -> bool:
        """The adapters read the codes; there are no other parameters."""
        return False

    def problems(self) -> Iterator[Problem]:
        """Check ranges, and that dotted codes are whole bytes."""
        yield from super().problems()
        yield from at_least("bits", self.bits, 1)
        yield from at_least("hash_seed", self.hash_seed, 0)
        yield from one_of("code", self.code, ("plain", "dotted"))
        if self.code == "dotted" and self.bits % 8:
            yield Problem("bits", f"must be a multiple of 8 for code=dotted, got {self.bits}")
        if self.item_projection != "shared":
            yield Problem("item_projection", f"codes are not mapped; must be shared, got {self.item_projection}")


@dataclass
class CurriculumConfig:
    """Weights of the text and the CF stream over the steps, and who learns from which."""

    name: str = MISSING
    """The option's name. It is part of a run's name."""

    @property
    def has_cf_stream(self) -> bool:
        """Whether prompts with slots (or codes) are trained on."""
        return True

    @property
    def has_text_stream(self) -> bool:
        """Whether text-only prompts are trained on."""
        return True

    @property
    def adapters_read_cf(self) -> bool:
        """Whether adapters learn from the CF stream at some time."""
        return False

    @property
    def fusion_learns(self) -> bool:
        """Whether the fusion learns at some time."""
        return True


@dataclass
class SigmoidCurriculumConfig(CurriculumConfig):
    """CKF: the weight moves from the text stream to the CF stream along a sigmoid over the steps."""

    schedule_target: str = "loss"
    """What the weights scale: the ``loss`` (as released) or the learning rates (``lr``). Adam divides a factor of the
    loss out again, but not one of the learning rate."""
    steepness: float = 8.0
    """Slope of the sigmoid. Larger is nearer to a switch half-way."""

    def problems(self) -> Iterator[Problem]:
        """Check the names."""
        yield from one_of("schedule_target", self.schedule_target, ("loss", "lr"))
        if self.steepness <= 0:
            yield Problem("steepness", f"must be above 0, got {self.steepness:g}")


@dataclass
class TwoStageCurriculumConfig(CurriculumConfig):
    """Adapters learn from text first; the second stage trains on CF prompts."""

    first_fraction: float = 0.5
    """Share of the steps in the first stage, above 0 and below 1."""
    second_stage: str = "fusion"
    """Who learns in the second stage: the ``fusion``, the ``adapters`` or ``both``."""

    @property
    def adapters_read_cf(self) -> bool:
        """In the second stage, unless it is the fusion's alone."""
        return self.second_stage != "fusion"

    @property
    def fusion_learns(self) -> bool:
        """In the second stage, unless it is the adapters' alone."""
        return self.second_stage != "adapters"

    def problems(self) -> Iterator[Problem]:
        """Check ranges and names."""
        yield from one_of("second_stage", self.second_stage, ("fusion", "adapters", "both"))
        if not 0 < self.first_fraction < 1:
            yield Problem("first_fraction", f"must be above 0 and below 1, got {self.first_fraction:g}")


@dataclass
class JointCurriculumConfig(CurriculumConfig):
    """Adapters and fusion learn from the CF prompts from the first step to the last."""

    @property
    def has_text_stream(self) -> bool:
        """CF prompts alone."""
        return False

    @property
    def adapters_read_cf(self) -> bool:
        """Always."""
        return True


@dataclass
class TextOnlyCurriculumConfig(CurriculumConfig):
    """Adapters learn from text prompts; there is no CF stream."""

    @property
    def has_cf_stream(self) -> bool:
        """Text alone."""
        return False

    @property
    def fusion_learns(self) -> bool:
        """There is nothing for it to learn from."""
        return False


@dataclass
class NoCurriculumConfig(CurriculumConfig):
    """Nothing is trained."""

    @property
    def has_cf_stream(self) -> bool:
        """No step is taken."""
        return False

    @property
    def has_text_stream(self) -> bool:
        """No step is taken."""
        return False

    @property
    def fusion_learns(self) -> bool:
        """No step is taken."""
        return False
