"""Scores of every possible answer from one forward pass a batch; no text is generated and no example is dropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from ckf.data.example_table import ExampleTable
from ckf.eval.scoring_batches import plan_batches, score_batch
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collators


@dataclass(frozen=True)
class ShardSpec:
    """Every ``count``-th batch from ``number`` on."""

    number: int = 0
    count: int = 1


def answer_log_probabilities(
    model: Recommender, table: ExampleTable, collators: Collators,
    *, slots: bool, batch_size: int, device: torch.device, share: ShardSpec = ShardSpec(),  # noqa: B008  (frozen)
) -> tuple[list[np.ndarray], int]:  # fmt: skip
    """Log-probability of each possible answer (terminator included) of each example, in the table's order.

    Examples that share their beginning or are of like length share a batch; ``share`` scores some of the
    batches and leaves the other rows empty. Also returns how many prompts lost history to the length limit.
    """
    batches = plan_batches(table, collators, slots=slots, size=batch_size)[share.number :: share.count]
    model.to(device).eval()
    out: list[np.ndarray] = [np.empty(0)] * len(table)
    cut = 0
    bar = tqdm(total=sum(map(len, batches)), desc=f"scoring {table.split}", unit="prompt", mininterval=1.0)
    for rows in batches:
        found = score_batch(model, collators, [table[int(i)] for i in rows], slots=slots, device=device)
        for row, part in zip(rows, found.answers, strict=True):
            out[row] = part
        cut += found.history_cut
        bar.update(len(rows))
    bar.close()
    return out, cut
