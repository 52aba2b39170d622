"""Gaussian noise in CF vectors (``perturbation.vectors``), to measure what precision a fused model needs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ckf.core.rng import generator_for


def with_noise(table: Tensor, level: float, seed: int, purpose: str) -> Tensor:
    """A table [n, d] with Gaussian noise of ``level`` times each dimension's spread; rows of zeros (cold) stay."""
    known = (table != 0).any(dim=1)
    if int(known.sum()) < 2:
        return table
    draw = generator_for(seed, f"noise of {purpose}").standard_normal(tuple(table.shape), dtype=np.float32)
    return table + level * table[known].std(dim=0) * torch.from_numpy(draw) * known[:, None]
