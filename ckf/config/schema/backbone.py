"""Backbones: the language model that is adapted, and how it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, one_of
from ckf.core.errors import Problem

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
"""What ``model_type`` of a checkpoint's ``config.json`` may be."""
EAGER_ONLY = ("gemma2",)
"""Families that cap their attention scores, which torch's fused attention cannot."""
ATTENTIONS = ("sdpa", "eager")
MASKLESS = ("flash_attention_2", "flash_attention_3", "flash_attention_4", "paged_attention")


@dataclass
class BackboneConfig:
    """A causal language model, frozen."""

    name: str = MISSING
    """The option's name. It is part of a run's name."""
    dtype: str = "float32"
    """Number type of the weights and the computation: ``float32`` or ``bfloat16``."""

    def problems(self) -> Iterator[Problem]:
        """Check the dtype."""
        yield from one_of("dtype", self.dtype, ("float32", "bfloat16"))


@dataclass
class TinyBackboneConfig(BackboneConfig):
    """A small Llama with its own BPE vocabulary, pre-trained here on the training split's text."""

    hidden_size: int = 64
    """Width of the model. It must be a multiple of twice ``heads``."""
    layers: int = 2
    """Number of decoder layers."""
    heads: int = 2
    """Attention heads of each layer."""
    intermediate_size: int = 192
    """Width of each layer's feed-forward network."""
    vocabulary: int = 3000
    """Number of tokens of the tokenizer that is fitted on the training text, at least 300."""

    def problems(self) -> Iterator[Problem]:
        """Check the shape."""
        yield from super().problems()
        for name in ("hidden_size", "layers", "heads", "intermediate_size"):
            yield from at_least(name, getattr(self, name), 1)
        yield from at_least("vocabulary", self.vocabulary, 300)
        if self.heads > 0 and self.hidden_size % (2 * self.heads):
            yield Problem("hidden_size", f"must be a multiple of 2 * heads ({2 * self.heads}), got {self.hidden_size}")


@dataclass
class HFBackboneConfig(BackboneConfig):
    """Any local folder or hub name that ``transformers`` can load as a causal language model."""

    path: str = MISSING
    """A local folder, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub. null takes the newest."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the weights may run. Only for a tokenizer that cannot be loaded otherwise."""
    attention: str = "sdpa"
    """Attention implementation: ``sdpa`` or ``eager``. Gemma 2 needs ``eager``."""
    quantization: str = "none"
    """Load the frozen weights in ``8bit`` or ``4bit`` (bitsandbytes, needs a GPU), or ``none``. ``dtype`` is then that
    of the computation."""
    chat_template: str = "none"
    """``auto`` puts the prompt into the user's turn and the answer into the assistant's turn of the tokenizer's own
    template. ``none`` leaves text as it is."""

    def problems(self) -> Iterator[Problem]:
        """Check the names; scoring all answers at once needs an attention that takes a mask."""
        yield from super().problems()
        if self.attention in MASKLESS:
            yield (
                Problem(
                    "attention",
                    f"'{self.attention}' cannot take the mask that scores all answers of a prompt "
                    f"in one pass; one of {', '.join(ATTENTIONS)}",
                )
            )
        else:
            yield from one_of("attention", self.attention, ATTENTIONS)
        yield from one_of("quantization", self.quantization, ("none", "8bit", "4bit"))
        yield from one_of("chat_template", self.chat_template, ("none", "auto"))


@dataclass
class NoBackboneConfig(BackboneConfig):
    """No language model: the CF model's own predictions are the method."""
