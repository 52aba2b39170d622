"""Choose the examples of each step: a pure function of (seed, step), the same on every rank."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ckf.core.errors import DataError
from ckf.core.rng import generator_for


class BatchPlan:
    """Batches with a fixed quota of every task.

    Each task goes through its own examples in a new random order each epoch, so that all of them come equally
    often under any mixture. ``task_index`` [n] is each example's task.

    Raises:
        DataError: a task has no example.
    """

    def __init__(
        self, task_index: np.ndarray, tasks: list[str], weights: list[float], global_batch_size: int, seed: int
    ) -> None:
        self.tasks = tasks
        self.seed = seed
        self.pools = [np.flatnonzero(task_index == t) for t in range(len(tasks))]
        for task, pool in zip(tasks, self.pools, strict=True):
            if not len(pool):
                raise DataError(f"task {task}: the training split has no example of it; leave it out of tasks.mixture")
        self.quotas = quotas(weights, global_batch_size)
        self._order = lru_cache(maxsize=4 * len(tasks))(self._draw_order)

    def steps(self, epochs: float) -> int:
        """Optimizer steps for ``epochs`` passes over the task that takes longest."""
        longest = max(len(pool) / quota for pool, quota in zip(self.pools, self.quotas, strict=True))
        return max(1, int(np.ceil(epochs * longest)))

    def batch(self, step: int) -> np.ndarray:
        """Indices of the global batch of one step, grouped by task."""
        parts = []
        for task, (pool, quota) in enumerate(zip(self.pools, self.quotas, strict=True)):
            places = np.arange(step * quota, (step + 1) * quota)
            passes, within = np.divmod(places, len(pool))
            order = [self._order(task, int(p))[w] for p, w in zip(passes, within, strict=True)]
            parts.append(pool[order])
        return np.concatenate(parts)

    def _draw_order(self, task: int, epoch: int) -> np.ndarray:
        draw = generator_for(self.seed, f"order of {self.tasks[task]}, pass {epoch}")
        return draw.permutation(len(self.pools[task]))


def quotas(weights: list[float], size: int) -> list[int]:
    """Split ``size`` rows by weight (largest remainders), at least one each."""
    shares = np.asarray(weights, dtype=float) / sum(weights) * size
    counts = np.maximum(1, np.floor(shares).astype(int))
    while counts.sum() > size:
        counts[int(np.argmax(counts))] -= 1
    for place in np.argsort(-(shares - np.floor(shares)), kind="stable")[: size - counts.sum()]:
        counts[place] += 1
    return [int(c) for c in counts]
