"""Dropout that is cheap on a CPU: sixteen random bits a number rather than a floating-point draw."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_STEPS = 1 << 16


class Dropout(nn.Module):
    """Zeroes a share ``rate`` of numbers in training, rounded to 2^-16, and scales the rest up to keep the mean."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        factors = self.factors(x)
        return x if factors is None else x * factors

    def factors(self, x: Tensor) -> Tensor | None:
        """What to multiply ``x`` with, 0 or 1 / (1 - rate) at each place; None where nothing is dropped.

        A function of torch's random state, of which it takes one draw (on the CPU; one a number elsewhere).
        """
        if not self.training or self.rate == 0.0:
            return None
        dropped = round(self.rate * _STEPS)
        scale = _STEPS / (_STEPS - dropped)
        if x.device.type != "cpu":
            return (torch.rand_like(x) >= self.rate).to(x.dtype) * scale
        draw = np.random.SFC64(int(torch.randint(2**62, ())))
        bits = draw.random_raw(-(-x.numel() // 4)).view(np.uint16)[: x.numel()]
        factors = np.multiply(bits >= dropped, np.float32(scale), dtype=np.float32)
        return torch.from_numpy(factors).view(x.shape).to(x.dtype)
