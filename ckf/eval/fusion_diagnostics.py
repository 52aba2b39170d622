"""Fusion diagnostics: whether a trained model uses what its slots (or codes) are given.

The same prompts are scored as they are and with the CF knowledge perturbed. Two questions are asked:
``change``, how far the answers move (mean total-variation distance between the two distributions over
the possible answers: 0 where nothing changed, 1 where every answer did), and ``loss_rise``, whether the
answers become *worse*: the mean fall of the right answer's log-probability, in nats. Answers of a model
that was trained on noise move as well; only one that reads what its slots say gets worse by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ckf.cf.vectors.tables import VectorTables
from ckf.core.artifact_store import read_json_lines
from ckf.core.rng import hash_ids, hashed_uniform
from ckf.data.example_table import Example, ExampleTable
from ckf.metrics import LEAST_USERS, auc
from ckf.metrics.resampling import Ratio, resample
from ckf.model.fusion import Fusion
from ckf.model.recommender import Recommender
from ckf.prompts.batch import PromptBatch, SlotBatch
from ckf.prompts.collate import Collators
from ckf.tracking.loggers import STEPS

EXAMPLES, BATCH = 400, 50
"""Examples of each task unless set (``evaluate.diagnostics_examples``), and of a pass: users are swapped within one."""
RESAMPLES = 2000
LEVEL = 0.95
"""Of the intervals of ``loss_rise``, for all tasks together (Bonferroni)."""


class ZeroedFusion(Fusion):
    """Fills every slot with zeros in place of another fusion."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__(fusion.cf_dim, fusion.llm_dim, fusion.tokens_per_slot, fusion.slots)

    def forward(self, slots: SlotBatch) -> Tensor:
        """Zeros [S, D]."""
        return torch.zeros(len(slots.rows), self.llm_dim, device=slots.rows.device)


@torch.inference_mode()
def slot_diagnostics(
    model: Recommender, collators: Collators, table: ExampleTable, device: torch.device, examples: int = EXAMPLES
) -> dict[str, float]:
    """Change of the answers on a sample of ``table`` when the CF knowledge is perturbed, overall and by task.

    The sample has at most ``examples`` of each task.

    ``zeroed``: slots hold zeros (codes: the code of an unknown id). ``shuffled``: every user has another
    user's vector and every item another item's. ``swapped``: the user's vector, history and code are
    another user's, the item's stay. The rise of the loss comes by task, with a bootstrap interval over
    users (`LEVEL`). For tasks of two answers also the AUC of the sample, as it is and perturbed.
    """
    sample = _sample(table, examples)
    if not sample:
        return {}
    model.to(device).eval()

    tables, fusion = collators.tables, model.fusion
    passes = 1 + (fusion is not None or tables is not None) + 2 * (tables is not None)
    bar = tqdm(total=passes * len(sample), desc="fusion diagnostics", unit="prompt", mininterval=1.0)

    def score(with_collator: Collators, change: Callable[[PromptBatch], None] | None = None) -> list[np.ndarray]:
        return _distributions(model, with_collator, sample, device, change, bar)

    found = {"": score(collators)}
    if fusion is not None:
        model.fusion = ZeroedFusion(fusion)
        found["zeroed"] = score(collators)
        model.fusion = fusion
    elif tables is not None:
        nothing = torch.zeros(())
        empty = VectorTables(nothing.expand(tables.users.shape), nothing.expand(tables.items.shape))
        found["zeroed"] = score(collators.with_tables(empty))
    if tables is not None:
        found["shuffled"] = score(collators.with_tables(tables.shuffled(0)))
        found["swapped"] = score(collators, _swap_users)
    bar.close()
    binary = [name for name, task in collators.encoder.tasks.items() if task.binary]
    return _summary(sample, found, binary) | _loss_rises(sample, [_right(collators, x) for x in sample], found)


def equal_vectors(cf: Path) -> dict[str, float]:
    """``diagnostics/equal_vectors_users`` and ``_items``: 1 where all vectors of a CF artifact are one, else 0.

    Ids without a vector are left out; where no id has one, they are all equal. Of models that read a history the
    vectors of the examples' users are looked at.
    """
    tables = VectorTables.load(cf)
    users = tables.users[1:] if tables.example_users is None else tables.example_users.vectors
    found = {}
    for kind, vectors in (("users", users), ("items", tables.items[1:])):
        rows = vectors[vectors.any(dim=1)]
        spread = (rows - rows[:1]).abs().max() if len(rows) else 0.0
        found[f"diagnostics/equal_vectors_{kind}"] = float(len(vectors) > 1 and float(spread) <= 1e-6)
    return found


def gradient_shares(run: Path) -> dict[str, float]:
    """Mean share of the gradient norm that fusion and adapters got, over a run's logged steps."""
    shares = dict[str, list[float]]()
    for line in read_json_lines(run / STEPS):
        for key, value in line.items():
            if key.startswith("train/grad_share_"):
                shares.setdefault(key.removeprefix("train/"), []).append(value)
    return {f"diagnostics/{key}": float(np.mean(values)) for key, values in shares.items()}


def _sample(table: ExampleTable, limit: int) -> list[Example]:
    """A few examples of each task, the same for every method; neighbours are of different users where possible."""
    if not len(table):
        return []
    draw = hashed_uniform(0, "examples of fusion health", hash_ids(table.example_id), 1)[:, 0]
    chosen = []
    for task in range(len(table.tasks)):
        mine = np.flatnonzero(table.task_index == task)
        chosen += mine[np.argsort(draw[mine], kind="stable")[:limit]].tolist()
    return [table[i] for i in chosen]


def _distributions(
    model: Recommender,
    collators: Collators,
    sample: list[Example],
    device: torch.device,
    change: Callable[[PromptBatch], None] | None,
    bar: tqdm[Any],
) -> list[np.ndarray]:
    """Probabilities over the possible answers of each example."""
    out: list[np.ndarray] = []
    for start in range(0, len(sample), BATCH):
        examples = sample[start : start + BATCH]
        if change is not None and collators.codes is not None:
            users = [example.user for example in examples]
            examples = [dataclasses.replace(x, user=u) for x, u in zip(examples, users[1:] + users[:1], strict=True)]
        batch, counts = collators.scoring(examples, slots=True)
        if change is not None:
            change(batch)
        batch = batch.to(device)
        totals = torch.zeros(sum(counts), dtype=torch.float64, device=device)
        totals.index_add_(0, batch.answer_index, model(batch).double())
        parts = totals.cpu().split(counts)
        out += [part.softmax(dim=0).numpy() for part in parts]
        bar.update(len(examples))
    return out


def _swap_users(batch: PromptBatch) -> None:
    """Give each row the next row's user and history."""
    slots = batch.slots
    if slots is not None:
        slots.users, slots.history = slots.users.roll(-1, dims=0), slots.history.roll(-1, dims=0)
        slots.history_mask = slots.history_mask.roll(-1, dims=0)


def _right(collators: Collators, example: Example) -> int:
    """Place of the right answer among the possible ones."""
    if collators.encoder.tasks[example.task].lists:
        return example.position
    return collators.encoder.labels(example).index(collators.encoder.true_label(example))


def _loss_rises(sample: list[Example], right: list[int], found: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """Each task's loss and its rise with an interval over users (``…/<task>/loss_rise_<change>[_low|_high]``).

    ``…/<task>/users`` counts the users; below `LEAST_USERS` there is no interval.
    """
    tasks = np.asarray([example.task for example in sample])
    users = np.asarray([example.user for example in sample])
    tail = 100 * (1 - LEVEL) / 2 / len(set(tasks.tolist()))
    loss = {
        name: -np.log([max(p[place], 1e-12) for p, place in zip(distributions, right, strict=True)])
        for name, distributions in found.items()
    }
    out = {f"diagnostics/{task}/loss": float(loss[""][tasks == task].mean()) for task in dict.fromkeys(tasks.tolist())}
    for task in dict.fromkeys(tasks.tolist()):
        out[f"diagnostics/{task}/users"] = len(np.unique(users[tasks == task]))
        for name in [name for name in found if name]:
            names, codes = np.unique(users[tasks == task], return_inverse=True)
            mean = Ratio.of_rows((loss[name] - loss[""])[tasks == task], codes, len(names))
            key = f"diagnostics/{task}/loss_rise_{name}"
            out[key] = mean.value()
            if mean.units >= LEAST_USERS:
                drawn = resample({"rise": mean}, len(names), RESAMPLES, seed=0)["rise"]
                low, high = np.percentile(drawn, [tail, 100 - tail])
                out |= {f"{key}_low": float(low), f"{key}_high": float(high)}
    return out


def _summary(sample: list[Example], found: dict[str, list[np.ndarray]], binary: Sequence[str]) -> dict[str, float]:
    """How far the answers move, overall and by task; for tasks with two answers also the AUC of the sample."""
    tasks = np.asarray([example.task for example in sample])
    out: dict[str, float] = {"diagnostics/n": float(len(sample))}
    for name, distributions in found.items():
        if name:
            pairs = zip(found[""], distributions, strict=True)
            distance = np.asarray([0.5 * np.abs(p - q).sum() for p, q in pairs])
            out[f"diagnostics/change_{name}"] = float(distance.mean())
            for task in dict.fromkeys(tasks.tolist()):
                out[f"diagnostics/{task}/change_{name}"] = float(distance[tasks == task].mean())
        for task in binary:
            mine = np.flatnonzero(tasks == task)
            labels = np.asarray([sample[row].label for row in mine])
            if 0 < labels.sum() < len(labels):
                yes = np.asarray([distributions[row][1] for row in mine])
                out[f"diagnostics/{task}/auc_{name}" if name else f"diagnostics/{task}/auc"] = auc(labels, yes)
    return out
