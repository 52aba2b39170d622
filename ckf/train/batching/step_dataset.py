"""The steps of a run: its batch plan, curriculum and the way of its streams, from a config and its examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ckf.config.schema import ExperimentConfig
from ckf.data.example_table import ExampleTable
from ckf.prompts.collate import Collator
from ckf.train.batching.batch_plan import BatchPlan
from ckf.train.batching.batches import StepDataset
from ckf.train.batching.prefix_sharing import StreamMode, stream_path, token_bytes
from ckf.train.curriculum import build_curriculum


def run_steps(
    exp: ExperimentConfig, examples: Path, collator: Collator, backbone: Any
) -> tuple[StepDataset, StreamMode]:
    """The micro-batches of a run (of rank 0, until ``rank`` is set), and which way its streams go.

    ``backbone`` is its ``transformers`` config.
    """
    tasks, weights = [task.name for task in exp.task_mix], [task.weight for task in exp.task_mix]
    table = ExampleTable(examples / "examples.parquet", "train", tasks)
    plan = BatchPlan(table.task_index, tasks, weights, exp.train.global_batch_size, exp.seed)
    steps = exp.train.max_steps or plan.steps(exp.train.epochs)
    curriculum = build_curriculum(exp.curriculum, steps)
    rows = exp.train.global_batch_size // (exp.trainer.world_size * exp.train.accumulation_steps)
    size = token_bytes(backbone, getattr(torch, exp.backbone.dtype))
    path = stream_path(curriculum, table, collator, rows=rows, token_bytes=size)
    dataset = StepDataset(
        table,
        collator,
        plan,
        steps=steps,
        curriculum=curriculum,
        task_weights=weights,
        length_buckets=exp.train.length_buckets,
        accumulation_steps=exp.train.accumulation_steps,
        rank=0,
        world_size=exp.trainer.world_size,
        share_prefix=path.shared,
        join_branches=path.joined,
        same_passes=exp.trainer.strategy == "fsdp",
    )
    return dataset, path
