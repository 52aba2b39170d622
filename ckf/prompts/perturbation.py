"""Perturbed prompts: titles with words of other titles, and histories in a random order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ckf.core.rng import hash_ids, hashed_uniform


def perturb_titles(titles: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Titles with a fraction of their words replaced by words drawn from all titles; index 0 (padding) stays.

    The draw depends on the seed and the item alone, so an item has the same title in every prompt.
    """
    vocabulary = [word for title in titles for word in title.split()]
    perturbed = []
    for item, title in enumerate(titles):
        words = title.split()
        if words:
            draws = hashed_uniform(seed, "noise of titles", hash_ids([str(item)]), 2 * len(words))[0]
            replaced, chosen = draws[: len(words)] < fraction, (draws[len(words) :] * len(vocabulary)).astype(int)
            words = [vocabulary[c] if r else w for w, r, c in zip(words, replaced, chosen, strict=True)]
        perturbed.append(" ".join(words) if words else title)
    return perturbed


def shuffled_order(example_id: str, count: int, seed: int) -> list[int]:
    """A random order of ``count`` positions, drawn by the example's id."""
    draws = hashed_uniform(seed, "order of the history", hash_ids([example_id]), count)[0]
    return [int(position) for position in np.argsort(draws, kind="stable")]
