"""What a run will take, told before anything of it is built."""

from __future__ import annotations

from pathlib import Path

import torch

from ckf.assembly import Inputs, build_collators, task_names
from ckf.cf.vectors.tables import VectorTables
from ckf.config.schema import ExperimentConfig, TinyBackboneConfig
from ckf.core.errors import CkfError
from ckf.model.backbone import load_tokenizer
from ckf.model.dummy_models import backbone_config, build_dummy_recommender, cf_width
from ckf.train.batching.step_dataset import run_steps
from ckf.train.cost_estimate import ParameterCounts, count_parameters, estimate_cost, memory_bytes


def cost_report(exp: ExperimentConfig, folders: tuple[Path, Path, str] | None) -> list[str]:
    """Lines for people; ``folders`` of dataset, examples and tokenizer, None where there is no data.

    Nothing is downloaded or loaded but a config and a tokenizer: steps are timed on random weights.
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
    parts = count_parameters(
        build_dummy_recommender(exp, config, width, tasks, "meta"), getattr(exp.backbone, "quantization", "none")
    )
    lines = parameter_lines(parts, unknown_fusion=exp.fusion.reads_vectors and not width)
    if tokenizer is None or folders is None:
        how = missing or f"ckf prepare makes the data{', and the tokenizer comes of it' if tiny else ''}"
        return [*lines, f"tokens, time, peak memory: not known yet ({how})"]
    device = "cuda" if exp.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    held = memory_bytes(device)
    none = torch.zeros(1, max(1, width)).expand(2**31, -1)  # a row for every id, in the memory of one
    tables = VectorTables(none, none) if exp.fusion.reads_vectors else None
    collator = build_collators(exp, Inputs(folders[0], folders[1], "", None), tokenizer, tables)
    data, path = run_steps(exp, folders[1], collator, config)
    found = estimate_cost(exp, parts, config, data, held_bytes=held, device=device)
    return [*lines, f"streams: {path}", *found.lines()]


def parameter_lines(parts: ParameterCounts, *, unknown_fusion: bool) -> list[str]:
    """The parts, frozen and trained."""
    adapters = ", ".join(f"{name} {count:,}" for name, count in parts.adapters.items()) or "none"
    fusion = f"{parts.fusion:,}" + (" and what the width of the vectors adds" if unknown_fusion else "")
    return [
        f"parameters: backbone {parts.backbone:,} (frozen, {parts.backbone_bytes / 2**20:,.0f} MiB); "
        f"adapters {adapters}; fusion {fusion}",
        f"trained: {parts.trained:,} of {parts.backbone + parts.trained:,} "
        f"({parts.trained / (parts.backbone + parts.trained):.2%})",
    ]
