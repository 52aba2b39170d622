"""Ranking of the whole catalogue: retrieval, and the language model's order of what was retrieved first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ckf.core.errors import ConfigError, Problem
from ckf.data.example_table import Example, ExampleTable
from ckf.eval.predictions import example_rows
from ckf.eval.retrieval import Positives
from ckf.eval.scoring_batches import score_batch
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collators

KEPT = 100
"""Items of each order that a predictions file holds; they hold the target's rank in the whole order too."""
_LISTS = 64

Scores = Callable[[list[Example]], np.ndarray]
"""Scores of the whole catalogue for some examples. [n, n_items + 1]"""


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The items that can be recommended, and what each user likes already."""

    items: np.ndarray
    positives: Positives

    def allowed(self, examples: Sequence[Example]) -> np.ndarray:
        """Whether an item is ranked for an example: all but the user's other likes. bool [n, n_items + 1]"""
        found = np.zeros((len(examples), len(self.positives.counts)), dtype=bool)
        found[:, self.items] = True
        for row, example in enumerate(examples):
            found[row, self.positives.of(example.user)] = False
            if example.item:
                found[row, example.item] = True
        return found


def rank_catalogue(table: ExampleTable, catalogue: Catalogue, scores: Scores, source: str) -> pd.DataFrame:
    """Rows of the first `KEPT` items of each list and of its target, with the target's ``rank`` in the whole order."""
    frames = []
    for rows, examples, values in _orders(table, catalogue, scores):
        targets = np.asarray([example.item for example in examples])
        target = np.take_along_axis(values, targets[:, None], axis=1)
        ranks = (values >= target).sum(axis=1)  # a tied target comes last
        kept = [
            np.union1d(np.argsort(-line, kind="stable")[:KEPT], [item])
            for line, item in zip(values, targets, strict=True)
        ]
        kept = [items[np.isfinite(line[items])] for items, line in zip(kept, values, strict=True)]
        chosen = [line[items] for items, line in zip(kept, values, strict=True)]
        frames.append(example_rows(table, rows, kept, source).assign(score=np.concatenate(chosen)))
        frames[-1]["rank"] = np.repeat(ranks, [len(items) for items in kept]).astype(float)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def reranked(
    model: Recommender, collators: Collators, table: ExampleTable, catalogue: Catalogue, scores: Scores, source: str,
    *, n: int, slots: bool, device: torch.device,
) -> pd.DataFrame:  # fmt: skip
    """The language model's order of the first ``n`` items of each list; a target that is not among them is missed.

    Raises:
        ConfigError: the model was trained on neither ctr nor rating.
    """
    frames = []
    bar = tqdm(total=len(table), desc=f"re-ranking {n}", unit="list", mininterval=1.0)
    for rows, examples, values in _orders(table, catalogue, scores):
        lists = [best_items(line, n) for line in values]
        found = [
            pointwise_scores(model, collators, example, items, slots=slots, device=device)
            for example, items in zip(examples, lists, strict=True)
        ]
        frames.append(example_rows(table, rows, lists, source).assign(score=np.concatenate(found)))
        bar.update(len(rows))
    bar.close()
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def best_items(scores: np.ndarray, n: int) -> np.ndarray:
    """The ``n`` best items of one order [n_items + 1], best first; what has no score is left out."""
    order = np.argsort(-scores, kind="stable")[:n]
    return order[np.isfinite(scores[order])]


def pointwise_scores(
    model: Recommender, collators: Collators, example: Example, items: np.ndarray, *, slots: bool, device: torch.device
) -> np.ndarray:
    """How much the language model thinks that the example's user will like each item. [len(items)]

    The score of the run's first task that has one: of the built-in ones, ctr gives the log-odds of Yes, else rating
    the expected rating. The items share one prefix.

    Raises:
        ConfigError: it was trained on neither.
    """
    task = task_of_items(collators, "score") or task_of_items(collators, "rating")
    if task is None:
        raise ConfigError([Problem("re-ranking", "needs a model trained on ctr or rating; this one has neither")])
    return scores_of_task(model, collators, task, example, items, slots=slots, device=device)


def task_of_items(collators: Collators, kind: str) -> str | None:
    """The first task of the run that scores single items (`Task.item_score`)."""
    return next((name for name in collators.tasks if collators.encoder.tasks[name].item_score == kind), None)


def scores_of_task(
    model: Recommender, collators: Collators, task: str, example: Example, items: np.ndarray,
    *, slots: bool, device: torch.device,
) -> np.ndarray:  # fmt: skip
    """A task's score of each item (`Task.item_scores`). [len(items)]"""
    rows = [
        dataclasses.replace(example, task=task, item=int(item), candidates=example.candidates[:0], position=-1)
        for item in items
    ]
    parts: list[np.ndarray] = []
    for start in range(0, len(rows), 256):
        parts += score_batch(model, collators, rows[start : start + 256], slots=slots, device=device).answers
    if not parts:
        return np.empty(0)
    labels = collators.encoder.labels(rows[0])
    return collators.encoder.tasks[task].item_scores(np.stack(parts), labels)


def _orders(
    table: ExampleTable, catalogue: Catalogue, scores: Scores
) -> Iterator[tuple[np.ndarray, list[Example], np.ndarray]]:
    """Rows, examples and scores of the whole catalogue, a bounded number of lists at a time; -inf is not ranked."""
    for start in range(0, len(table), _LISTS):
        rows = np.arange(start, min(start + _LISTS, len(table)))
        examples = [table[int(row)] for row in rows]
        yield rows, examples, np.where(catalogue.allowed(examples), scores(examples), -np.inf)
