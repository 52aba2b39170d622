"""The two streams over the steps: their weights, and who learns from which."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Stream:
    """One stream of prompts: with or without slots, its weight, and the parameters that learn from it."""

    slots: bool
    weight: float
    learn_adapters: bool
    learn_fusion: bool


@dataclass(frozen=True)
class Curriculum:
    """The plan of a run over ``total_steps``.

    ========== ============================= =============================
    name       text stream trains            CF stream (slots) trains
    ========== ============================= =============================
    sigmoid    adapters, weight w(z)         fusion, weight 1 - w(z)
    joint      (none)                        adapters and fusion, weight 1
    text_only  adapters, weight 1            (none)
    ========== ============================= =============================

    ``apply="loss"`` multiplies the losses, as released; ``apply="lr"`` multiplies the learning rates
    of the stream's parameters instead, which Adam cannot divide out again.
    """

    name: str
    total_steps: int
    apply: str = "loss"
    steepness: float = 8.0

    def text_weight(self, step: float) -> float:
        """w(z) = 1 / (1 + exp(steepness (z - b) / b)), b half of the steps (CKF, section on curriculum)."""
        half = self.total_steps / 2
        return 1.0 / (1.0 + math.exp(self.steepness * (step - half) / half))

    def streams(self, step: int) -> list[Stream]:
        """The streams of a step with their weights in the loss; a stream whose weight is small still runs."""
        match self.name:
            case "text_only":
                return [Stream(slots=False, weight=1.0, learn_adapters=True, learn_fusion=False)]
            case "joint":
                return [Stream(slots=True, weight=1.0, learn_adapters=True, learn_fusion=True)]
            case "sigmoid":
                weight = self.text_weight(step) if self.apply == "loss" else 1.0
                other = 1.0 - weight if self.apply == "loss" else 1.0
                return [
                    Stream(slots=False, weight=weight, learn_adapters=True, learn_fusion=False),
                    Stream(slots=True, weight=other, learn_adapters=False, learn_fusion=True),
                ]
        raise ValueError(f"unknown curriculum '{self.name}'")

    def rate_factors(self, step: int) -> tuple[float, float]:
        """Factors on the learning rates of (adapters, fusion)."""
        if self.apply == "lr" and self.name == "sigmoid":
            weight = self.text_weight(step)
            return weight, 1.0 - weight
        return 1.0, 1.0
