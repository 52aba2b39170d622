"""The predicted cost of a run: parameters, tokens, time, memory and disk, from its shape and a few of its steps.

What a run really takes is measured in `ckf.train.throughput`.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ckf.assembly import Inputs, build_collators, task_names
from ckf.cf.vectors.tables import VectorTables
from ckf.config.schema import ExperimentConfig, TinyBackboneConfig
from ckf.core.errors import CkfError
from ckf.model.backbone import load_tokenizer
from ckf.model.dummy_models import backbone_config, build_dummy_recommender, cf_width
from ckf.model.recommender import Recommender
from ckf.train.batching.batches import StepBatch, StepDataset
from ckf.train.batching.step_dataset import run_steps
from ckf.train.module import FineTuning

SAMPLED_STEPS = 8
"""Steps whose tokens are counted; the one of median size is timed."""
_FLOAT_BYTES = 4
_ADAM_COPIES = 4  # weight, gradient and two moments of each trained number
_QUANTISED_BYTES = {"none": None, "8bit": 1.0, "4bit": 0.5}


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters by part.

    ``backbone_bytes`` is the size of the frozen parameters in memory, ``layer_bytes`` that of the decoder layers
    among them.
    """

    backbone: int
    adapters: dict[str, int]
    fusion: int
    backbone_bytes: int
    layer_bytes: int

    def held_bytes(self, sharded_over: int = 1) -> int:
        """Size of the frozen weights in one process, where the layers are sharded over so many processes."""
        return self.backbone_bytes - self.layer_bytes + self.layer_bytes // sharded_over

    @property
    def trained(self) -> int:
        """Number of trained parameters: adapters and fusion."""
        return sum(self.adapters.values()) + self.fusion

    @property
    def disk_bytes(self) -> int:
        """Size of three checkpoints (two kept, one being written) of weights and moments, and of the model's files."""
        return self.trained * _FLOAT_BYTES * (3 * 3 + 1)


def count_parameters(model: Recommender, quantization: str = "none") -> ParameterCounts:
    """Count a model's parameters; it may be on the meta device."""
    adapters = {spec.name: 0 for spec in model.adapters}
    for layer in model.layers.values():
        for spec in layer.adapters:
            adapters[spec.name] += sum(weight.numel() for weight in layer.weights_of(spec.name))
    frozen = [p for p in model.backbone.parameters() if not p.requires_grad]
    of_layers = [p for p in model.backbone.get_decoder().layers.parameters() if not p.requires_grad]
    size, in_layers = (_bytes_of(parameters, _QUANTISED_BYTES[quantization]) for parameters in (frozen, of_layers))
    fusion = sum(p.numel() for p in model.fusion_parameters())
    return ParameterCounts(sum(p.numel() for p in frozen), adapters, fusion, size, in_layers)


def _bytes_of(parameters: list[torch.nn.Parameter], width: float | None) -> int:
    """Size of parameters as they are, or with ``width`` bytes a number once they are quantised."""
    return int(sum(p.numel() * (p.element_size() if width is None else width) for p in parameters))


@dataclass(frozen=True)
class CostEstimate:
    """The prediction for one process: tokens computed and seconds over all steps, peak memory, and disk.

    ``padding`` is the fraction of the computed tokens that is padding.
    """

    steps: int
    tokens: int
    padding: float
    seconds: float
    memory_bytes: int
    disk_bytes: int

    def compare(self, measured: dict[str, float]) -> str:
        """Measured and predicted cost in one line."""
        return (
            f"{measured['seconds_per_step']:.3g} s a step (predicted {self.seconds / self.steps:.3g}), "
            f"{measured['waiting_share']:.1%} of it waiting for data; padding {measured['padding_share']:.1%} of the "
            f"tokens (predicted {self.padding:.1%}); peak memory {measured['peak_memory_bytes'] / 2**20:,.0f} MiB "
            f"(predicted {self.memory_bytes / 2**20:,.0f}); disk {measured['disk_bytes'] / 2**20:,.1f} MiB "
            f"(predicted at most {self.disk_bytes / 2**20:,.1f})"
        )

    def lines(self) -> list[str]:
        """The prediction as lines of text."""
        return [
            f"tokens: {self.tokens:,} in {self.steps:,} steps, {self.padding:.0%} of those computed are padding",
            f"time: {format_duration(self.seconds)} for training ({self.seconds / self.steps:.3g} s a step)",
            f"memory: {self.memory_bytes / 2**20:,.0f} MiB at the peak of a process",
            f"disk: {self.disk_bytes / 2**20:,.1f} MiB (three checkpoints and the model)",
        ]


def estimate_cost(
    exp: ExperimentConfig, parts: ParameterCounts, config: Any, data: StepDataset, *, held_bytes: int, device: str
) -> CostEstimate:
    """Predict the cost of a run.

    A step is timed on models of one and of two layers; each further layer is taken to cost what the second does.
    ``held_bytes`` is the memory of the process without the model.
    """
    numbers = np.unique(np.linspace(0, data.steps - 1, SAMPLED_STEPS).astype(int)) * data.accumulation_steps
    batches = [data[int(number)] for number in numbers]
    micro_batches = data.steps * data.accumulation_steps
    batch = sorted(batches, key=lambda b: b.tokens)[len(batches) // 2].to(torch.device(device))

    width = data.collators.tables.dim if data.collators.tables is not None else 0

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
        + parts.trained * _FLOAT_BYTES * _ADAM_COPIES
        + _graph_bytes(config, batches),
        disk_bytes=parts.disk_bytes,
    )


def _fastest(step: Callable[[], object], device: str) -> float:
    """Seconds of the faster of two calls, after one to warm up."""
    found = []
    for _ in range(3):
        started = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found[1:])


def _graph_bytes(config: Any, batches: list[StepBatch]) -> int:
    """Memory of the largest pass's graph: about 12 hidden and 4 intermediate widths for each token and layer."""
    tokens = max(p.input_ids.numel() for b in batches for of_kind in b.prompts.values() for p in of_kind)
    answers = max(len(p.answer_rows) for b in batches for of_kind in b.prompts.values() for p in of_kind)
    width = 12 * config.hidden_size + 4 * config.intermediate_size
    return _FLOAT_BYTES * (tokens * width * config.num_hidden_layers + 3 * answers * config.vocab_size)


def describe_cost(exp: ExperimentConfig, folders: tuple[Path, Path, str] | None) -> list[str]:
    """The predicted cost of a run as lines of text, before anything of the run is made.

    ``folders`` are those of dataset, examples and tokenizer, None where there is no data yet. Nothing is
    downloaded or loaded but a config and a tokenizer: steps are timed on random weights.
    """
    tokenizer, missing = None, None
    if folders is not None:
        try:
            tokenizer = load_tokenizer(folders[2], getattr(exp.backbone, "revision", None))
        except CkfError as error:
            missing = str(error)
    tiny = isinstance(exp.backbone, TinyBackboneConfig)
    vocabulary = len(tokenizer) if tokenizer is not None else getattr(exp.backbone, "vocabulary", 0)
    config, tasks, width = backbone_config(exp, vocabulary), task_names(exp), cf_width(exp)
    counts = count_parameters(
        build_dummy_recommender(exp, config, width, tasks, "meta"), getattr(exp.backbone, "quantization", "none")
    )
    lines = parameter_lines(counts, unknown_fusion=exp.fusion.reads_vectors and not width)
    if tokenizer is None or folders is None:
        how = missing or f"ckf prepare makes the data{', and the tokenizer comes of it' if tiny else ''}"
        return [*lines, f"tokens, time, peak memory: not known yet ({how})"]
    device = "cuda" if exp.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    held = memory_bytes(device)
    none = torch.zeros(1, max(1, width)).expand(2**31, -1)  # a row for every id, in the memory of one
    tables = VectorTables(none, none) if exp.fusion.reads_vectors else None
    collators = build_collators(exp, Inputs(folders[0], folders[1], "", None), tokenizer, tables)
    data, mode = run_steps(exp, folders[1], collators, config)
    estimate = estimate_cost(exp, counts, config, data, held_bytes=held, device=device)
    return [*lines, f"streams: {mode}", *estimate.lines()]


def parameter_lines(counts: ParameterCounts, *, unknown_fusion: bool) -> list[str]:
    """Numbers of frozen and trained parameters as lines of text."""
    adapters = ", ".join(f"{name} {count:,}" for name, count in counts.adapters.items()) or "none"
    fusion = f"{counts.fusion:,}" + (" and what the width of the vectors adds" if unknown_fusion else "")
    return [
        f"parameters: backbone {counts.backbone:,} (frozen, {counts.backbone_bytes / 2**20:,.0f} MiB); "
        f"adapters {adapters}; fusion {fusion}",
        f"trained: {counts.trained:,} of {counts.backbone + counts.trained:,} "
        f"({counts.trained / (counts.backbone + counts.trained):.2%})",
    ]


def memory_bytes(device: str) -> int:
    """Peak memory of this process so far: of the GPU, or resident."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def format_duration(seconds: float) -> str:
    """A duration as text in its two largest units, e.g. "5 h 2 min"."""
    whole = round(seconds)
    for name, size, smaller, rest in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // rest} {smaller}"
    return f"{seconds:.1f} s"
