"""What a run cost, from its card: figures that stand in a table beside its quality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COST = "cost/"


def cost_metrics(card: Mapping[str, Any]) -> dict[str, float]:
    """``cost/…`` of a run or a kept result: seconds by stage, examples/s, peak memory, trained parameters.

    Examples/s is what the fit noted: none where its last session, after a break, had nothing left to train.
    """
    stages, train = card.get("stages") or {}, card.get("train") or {}
    found = {f"{COST}{stage}_seconds": float(stages[stage]) for stage in ("train", "evaluate") if stage in stages}
    if "examples_per_second" in train:
        found[f"{COST}examples_per_second"] = float(train["examples_per_second"])
    if train:
        parts = ("adapter_parameters", "fusion_parameters")
        found[f"{COST}trainable_parameters"] = float(sum(train.get(part, 0) for part in parts))
    if "peak_memory_gib" in train:
        found[f"{COST}peak_memory_gib"] = float(train["peak_memory_gib"])
    return found
