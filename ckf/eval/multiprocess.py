"""Scoring by several processes of one machine: the same batches, so the same numbers, shared out."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ckf.assembly import Inputs, load_trained
from ckf.config.schema import ExperimentConfig
from ckf.data.example_table import ExampleTable
from ckf.eval.score import ShardSpec, answer_log_probabilities


@dataclass(frozen=True)
class ScoringJob:
    """What each process loads and scores."""

    exp: ExperimentConfig
    inputs: Inputs
    run: Path
    table: ExampleTable


def score_in_processes(work: ScoringJob, count: int) -> tuple[list[np.ndarray], int]:
    """`answer_log_probabilities` of a run's table by ``count`` processes, each of which loads the run.

    On a machine with GPUs each process takes one of its own.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        parts = list(pool.map(_score_share, [work] * count, [ShardSpec(number, count) for number in range(count)]))
    answers = [np.empty(0)] * len(work.table)
    for found, _ in parts:
        for row, scores in enumerate(found):
            if len(scores):
                answers[row] = scores
    return answers, sum(cut for _, cut in parts)


def _score_share(work: ScoringJob, share: ShardSpec) -> tuple[list[np.ndarray], int]:
    exp = work.exp
    gpu = exp.trainer.accelerator in ("gpu", "auto") and torch.cuda.is_available()
    device = torch.device(f"cuda:{share.number % torch.cuda.device_count()}" if gpu else "cpu")
    model, collators = load_trained(exp, work.inputs, work.run)
    return answer_log_probabilities(
        model, work.table, collators,
        slots=exp.fusion.fuses, batch_size=exp.evaluate.batch_size, device=device, share=share,
    )  # fmt: skip
