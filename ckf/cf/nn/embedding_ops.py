"""Rows of embedding tables and weighed sums of them, with backward passes that go over memory once.

Torch's own backward passes of an embedding and of a sparse product take several times as long on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

_DENSE_ROWS = 100_000


class PaddedEmbedding(nn.Embedding):
    """An embedding whose row 0 is padding.

    Large ones have sparse gradients, so that a step touches its rows alone; not with ``sparse=False``.
    """

    def __init__(self, rows: int, dim: int, *, sparse: bool = True) -> None:
        super().__init__(rows, dim, padding_idx=0, sparse=sparse and rows > _DENSE_ROWS)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of ids of any shape. [..., d]"""
        if self.sparse or ids.is_cuda:
            return super().forward(ids)
        return rows_of(self.weight, ids, padding=True)


def rows_of(values: Tensor, ids: Tensor, *, padding: bool = False) -> Tensor:
    """Rows ``ids`` of ``values`` [n, d]; with ``padding``, row 0 has no gradient. [..., d]"""
    if ids.is_cuda:  # where torch's own is fast, and its sums do not depend on the order of threads
        return F.embedding(ids, values, padding_idx=0 if padding else None)
    rows: Tensor = _Rows.apply(values, ids, padding)
    return rows


class _Rows(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ids: Tensor, padding: bool) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.padding = values.shape, padding
        return F.embedding(ids, values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        total = grad.new_zeros(ctx.shape).index_add_(0, ids.reshape(-1), grad.reshape(-1, ctx.shape[1]))
        if ctx.padding:
            total[0] = 0.0
        return total, None, None


@dataclass(frozen=True)
class SparseMatrix:
    """A sparse matrix in compressed rows: row r sums the rows ``columns[starts[r]:starts[r + 1]]`` of what it meets."""

    starts: Tensor
    columns: Tensor

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray, height: int, device: torch.device) -> SparseMatrix:
        """From the coordinates of its entries, ``rows`` ascending."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=height))])
        return cls(*(torch.from_numpy(x.astype(np.int32)).to(device) for x in (starts, columns)))

    def times(self, values: Tensor, weights: Tensor) -> Tensor:
        """The product with ``values`` [n, d], its entries being ``weights`` [entries]; no gradient. [height, d]"""
        return F.embedding_bag(
            self.columns, values, self.starts, mode="sum", per_sample_weights=weights, include_last_offset=True
        )


def spmm(forth: SparseMatrix, back: SparseMatrix, values: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """``forth`` times ``values``; ``back`` is its transpose, each with its own order of the ``weights``. [height, d]"""
    found: Tensor = _Product.apply(forth, back, values, weights)
    return found


class _Product(Function):
    @staticmethod
    def forward(
        ctx: Any, forth: SparseMatrix, back: SparseMatrix, values: Tensor, weights: tuple[Tensor, Tensor]
    ) -> Tensor:
        ctx.back, ctx.weights = back, weights[1]
        return forth.times(values.contiguous(), weights[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, None]:
        return None, None, ctx.back.times(grad.contiguous(), ctx.weights), None
