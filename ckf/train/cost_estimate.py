"""What a run will take: parameters, tokens, time, memory and disk, foretold from its shape and a few of its steps."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ckf.config.schema import ExperimentConfig
from ckf.model.dummy_models import build_dummy_recommender
from ckf.model.recommender import Recommender
from ckf.train.batching.batches import StepBatch, StepDataset
from ckf.train.module import FineTuning

SAMPLE = 8
"""Steps whose tokens are counted; one of them, of middle size, is timed."""
_FLOAT = 4
_ADAM = 4  # weight, gradient and two moments of each trained number
_BITS = {"none": None, "8bit": 1.0, "4bit": 0.5}


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters by part; ``backbone_bytes`` as the frozen ones lie in memory, ``layer_bytes`` of them
    those of the decoder's layers."""

    backbone: int
    adapters: dict[str, int]
    fusion: int
    backbone_bytes: int
    layer_bytes: int

    def held_bytes(self, sharded_over: int = 1) -> int:
        """Frozen weights in the memory of one process, of so many that the layers are cut over."""
        return self.backbone_bytes - self.layer_bytes + self.layer_bytes // sharded_over

    @property
    def trained(self) -> int:
        """Adapters and fusion."""
        return sum(self.adapters.values()) + self.fusion

    @property
    def disk_bytes(self) -> int:
        """Three checkpoints at most (two kept, one being written) of weights and moments, and the model's own files."""
        return self.trained * _FLOAT * (3 * 3 + 1)


def count_parameters(model: Recommender, quantization: str = "none") -> ParameterCounts:
    """Count a model's parameters; it may lie on the meta device."""
    adapters = {spec.name: 0 for spec in model.adapters}
    for layer in model.layers.values():
        for spec in layer.adapters:
            adapters[spec.name] += sum(weight.numel() for weight in layer.weights_of(spec.name))
    frozen = [p for p in model.backbone.parameters() if not p.requires_grad]
    of_layers = [p for p in model.backbone.get_decoder().layers.parameters() if not p.requires_grad]
    size, in_layers = (_bytes_of(parameters, _BITS[quantization]) for parameters in (frozen, of_layers))
    fusion = sum(p.numel() for p in model.fusion_parameters())
    return ParameterCounts(sum(p.numel() for p in frozen), adapters, fusion, size, in_layers)


def _bytes_of(parameters: list[torch.nn.Parameter], width: float | None) -> int:
    """Bytes as they are, or at ``width`` bytes a number once they are quantised."""
    return int(sum(p.numel() * (p.element_size() if width is None else width) for p in parameters))


@dataclass(frozen=True)
class CostEstimate:
    """Of one process: tokens computed and seconds over all steps, and bytes of memory at the peak."""

    steps: int
    tokens: int
    padding: float
    seconds: float
    memory_bytes: int
    disk_bytes: int

    def beside(self, took: dict[str, float]) -> str:
        """The estimate_cost beside what the run took, in one line."""
        return (
            f"{took['seconds_per_step']:.3g} s a step (predicted {self.seconds / self.steps:.3g}), "
            f"{took['waiting_share']:.1%} of it waiting for data; padding {took['padding_share']:.1%} of the tokens "
            f"(predicted {self.padding:.1%}); peak memory {took['peak_memory_bytes'] / 2**20:,.0f} MiB (predicted "
            f"{self.memory_bytes / 2**20:,.0f}); disk {took['disk_bytes'] / 2**20:,.1f} MiB (predicted at most "
            f"{self.disk_bytes / 2**20:,.1f})"
        )

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"tokens: {self.tokens:,} in {self.steps:,} steps, {self.padding:.0%} of those computed are padding",
            f"time: {format_duration(self.seconds)} for training ({self.seconds / self.steps:.3g} s a step)",
            f"memory: {self.memory_bytes / 2**20:,.0f} MiB at the peak of a process",
            f"disk: {self.disk_bytes / 2**20:,.1f} MiB (three checkpoints and the model)",
        ]


def estimate_cost(
    exp: ExperimentConfig, parts: ParameterCounts, config: Any, data: StepDataset, *, held_bytes: int, device: str
) -> CostEstimate:
    """Foretell a run. Its steps are timed on models of one and two layers; the others cost what the second does.

    ``held_bytes`` is what the process holds without the model.
    """
    numbers = np.unique(np.linspace(0, data.steps - 1, SAMPLE).astype(int)) * data.accumulation_steps
    batches = [data[int(number)] for number in numbers]
    micro_batches = data.steps * data.accumulation_steps
    batch = sorted(batches, key=lambda b: b.tokens)[len(batches) // 2].to(torch.device(device))

    width = data.collator.tables.dim if data.collator.tables is not None else 0

    def seconds_of(layers: int) -> float:
        model = build_dummy_recommender(exp, config, width, data.table.tasks, device, layers)
        module = FineTuning(model, data.curriculum, exp.train, exp.seed)
        return _fastest(lambda: module.accumulate(batch), device)

    one = seconds_of(1)
    layer = max(0.0, seconds_of(2) - one) if config.num_hidden_layers > 1 else 0.0
    return CostEstimate(
        steps=data.steps,
        tokens=int(np.mean([b.tokens for b in batches]) * micro_batches),
        padding=float(np.mean([b.padding for b in batches])),
        seconds=micro_batches * (one + layer * (config.num_hidden_layers - 1)),
        memory_bytes=held_bytes
        + parts.held_bytes(exp.trainer.world_size if exp.trainer.strategy == "fsdp" else 1)
        + parts.trained * _FLOAT * _ADAM
        + _graph(config, batches),
        disk_bytes=parts.disk_bytes,
    )


def _fastest(step: Callable[[], object], device: str) -> float:
    """Seconds of the faster of two calls, after one that warms up."""
    found = []
    for _ in range(3):
        started = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found[1:])


def _graph(config: Any, batches: list[StepBatch]) -> int:
    """Bytes that the largest pass keeps for its backward: about 12 hidden and 4 inner widths a token and layer."""
    tokens = max(p.input_ids.numel() for b in batches for of_kind in b.prompts.values() for p in of_kind)
    answers = max(len(p.answer_rows) for b in batches for of_kind in b.prompts.values() for p in of_kind)
    width = 12 * config.hidden_size + 4 * config.intermediate_size
    return _FLOAT * (tokens * width * config.num_hidden_layers + 3 * answers * config.vocab_size)


def memory_bytes(device: str) -> int:
    """The most memory that this process has held so far: of the GPU, or resident."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def format_duration(seconds: float) -> str:
    """A duration in its two largest units."""
    whole = round(seconds)
    for name, size, smaller, rest in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // rest} {smaller}"
    return f"{seconds:.1f} s"
