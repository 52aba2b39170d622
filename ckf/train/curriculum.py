"""The two streams of a run over its steps: their weights, and which parameters learn from which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, assert_never, cast

from ckf.config.schema import (
    CurriculumConfig,
    JointCurriculumConfig,
    SigmoidCurriculumConfig,
    TextOnlyCurriculumConfig,
    TwoStageCurriculumConfig,
)

CurriculumName = Literal["sigmoid", "two_stage", "joint", "text_only"]
ScheduleTarget = Literal["loss", "lr"]
SecondStage = Literal["fusion", "adapters", "both"]


@dataclass(frozen=True)
class Stream:
    """One stream of prompts: with or without slots, its weight, and the parameters that learn from it."""

    slots: bool
    weight: float
    learn_adapters: bool
    learn_fusion: bool


@dataclass(frozen=True)
class Curriculum:
    """The curriculum of a run over ``total_steps``.

    ========== ============================= =============================
    name       text stream trains            CF stream (slots) trains
    ========== ============================= =============================
    sigmoid    adapters, weight w(z)         fusion, weight 1 - w(z)
    two_stage  adapters, up to the boundary  ``second_stage``, from it on
    joint      (none)                        adapters and fusion, weight 1
    text_only  adapters, weight 1            (none)
    ========== ============================= =============================

    ``schedule_target="loss"`` multiplies the losses, as released. ``schedule_target="lr"`` multiplies the
    learning rates of the stream's parameters instead, because Adam normalises the scale of a loss away (measured
    over 40 steps: at a fifth of the run, where the fusion's weight is 0.008, it moves at full speed under
    ``loss`` and at 0.03 of it under ``lr``; tests/unit/train/test_curriculum.py). The boundary of ``two_stage``
    (CoLLM) comes after ``first_fraction`` of the steps; each stage has a learning-rate schedule of its own, and a
    part that does not learn in a stage is frozen (`frozen_parts`).
    """

    name: CurriculumName
    total_steps: int
    schedule_target: ScheduleTarget = "loss"
    steepness: float = 8.0
    first_fraction: float = 0.5
    second_stage: SecondStage = "fusion"

    @property
    def boundary(self) -> int:
        """First step of the second stage."""
        return min(max(1, round(self.first_fraction * self.total_steps)), max(1, self.total_steps - 1))

    def text_weight(self, step: float) -> float:
        """Weight of the text stream, from 0 to 1.

        For ``sigmoid`` w(z) = 1 / (1 + exp(steepness (z - b) / b)) with b half of the steps (CKF, section on
        curriculum). For the others 1 where the text stream runs, else 0.
        """
        match self.name:
            case "text_only":
                return 1.0
            case "joint":
                return 0.0
            case "two_stage":
                return 1.0 if step < self.boundary else 0.0
        half = self.total_steps / 2
        return 1.0 / (1.0 + math.exp(self.steepness * (step - half) / half))

    def streams(self, step: int) -> list[Stream]:
        """The streams of a step with their weights in the loss; a stream runs however small its weight is."""
        text = Stream(slots=False, weight=1.0, learn_adapters=True, learn_fusion=False)
        match self.name:
            case "text_only":
                return [text]
            case "joint":
                return [Stream(slots=True, weight=1.0, learn_adapters=True, learn_fusion=True)]
            case "two_stage":
                learners = (self.second_stage != "fusion", self.second_stage != "adapters")
                return [text] if step < self.boundary else [Stream(True, 1.0, *learners)]
            case "sigmoid":
                weight = self.text_weight(step) if self.schedule_target == "loss" else 1.0
                other = 1.0 - weight if self.schedule_target == "loss" else 1.0
                return [
                    Stream(slots=False, weight=weight, learn_adapters=True, learn_fusion=False),
                    Stream(slots=True, weight=other, learn_adapters=False, learn_fusion=True),
                ]
        assert_never(self.name)

    def frozen_parts(self, step: int) -> tuple[bool, bool]:
        """Whether (adapters, fusion) are frozen in this step: no stream trains them."""
        streams = self.streams(step)
        return not any(s.learn_adapters for s in streams), not any(s.learn_fusion for s in streams)

    def stage(self, step: int) -> tuple[int, int]:
        """First step and number of steps of the stage of ``step``."""
        if self.name != "two_stage":
            return 0, self.total_steps
        if step < self.boundary:
            return 0, self.boundary
        return self.boundary, self.total_steps - self.boundary

    def lr_multipliers(self, step: int) -> tuple[float, float]:
        """Multipliers on the learning rates of (adapters, fusion)."""
        if self.schedule_target == "lr" and self.name == "sigmoid":
            weight = self.text_weight(step)
            return weight, 1.0 - weight
        return 1.0, 1.0


def build_curriculum(cfg: CurriculumConfig, total_steps: int) -> Curriculum:
    """Make the curriculum of a config."""
    match cfg:
        case SigmoidCurriculumConfig(schedule_target=target, steepness=steepness):
            return Curriculum("sigmoid", total_steps, cast(ScheduleTarget, target), steepness)
        case TwoStageCurriculumConfig(first_fraction=first, second_stage=second):
            return Curriculum("two_stage", total_steps, first_fraction=first, second_stage=cast(SecondStage, second))
        case JointCurriculumConfig():
            return Curriculum("joint", total_steps)
        case TextOnlyCurriculumConfig():
            return Curriculum("text_only", total_steps)
    raise TypeError(f"no curriculum is built from {type(cfg).__name__}; add a case in ckf/train/curriculum.py")
