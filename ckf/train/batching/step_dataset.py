"""The steps of a run, from its config and its examples: batch plan, curriculum and stream mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ckf.config.schema import ExperimentConfig
from ckf.data.example_table import ExampleTable
from ckf.prompts.collate import Collators
from ckf.train.batching.batch_plan import BatchPlan
from ckf.train.batching.batches import StepDataset
from ckf.train.batching.prefix_sharing import StreamMode, choose_stream_mode, token_bytes
from ckf.train.curriculum import build_curriculum


def run_steps(
    exp: ExperimentConfig, examples: Path, collators: Collators, backbone: Any
) -> tuple[StepDataset, StreamMode]:
    """Make the micro-batches of a run and choose its stream mode; they are those of rank 0 until ``rank`` is set.

    ``backbone`` is the backbone's ``transformers`` config.
    """
    tasks, weights = [task.name for task in exp.task_mix], [task.weight for task in exp.task_mix]
    table = ExampleTable(examples / "examples.parquet", "train", tasks)
    plan = BatchPlan(table.task_index, tasks, weights, exp.train.global_batch_size, exp.seed)
    steps = exp.train.max_steps or plan.steps(exp.train.epochs)
    curriculum = build_curriculum(exp.curriculum, steps)
    rows = exp.train.global_batch_size // (exp.trainer.world_size * exp.train.accumulation_steps)
    size = token_bytes(backbone, getattr(torch, exp.backbone.dtype))
    mode = choose_stream_mode(curriculum, table, collators, rows=rows, token_bytes=size)
    dataset = StepDataset(
        table,
        collators,
        plan,
        steps=steps,
        curriculum=curriculum,
        task_weights=weights,
        length_buckets=exp.train.length_buckets,
        accumulation_steps=exp.train.accumulation_steps,
        rank=0,
        world_size=exp.trainer.world_size,
        share_prefix=mode.share_prefix,
        own_buckets=mode.own_buckets,
        same_passes=exp.trainer.strategy == "fsdp",
    )
    return dataset, mode
