"""Operations of the CF networks that are faster on a CPU than torch's own, mostly by gradients in closed form.

Rows of embeddings, sparse products, scores with their squared norms, dropout, and softmax attention (Vaswani et al.
2017, eq. 1) over short sequences: torch's softmax over a last dimension of ten takes longer than all the products
of an attention. Tests compare each with the plain torch expression.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """A sparse matrix in compressed rows: row r has entries at ``columns[starts[r]:starts[r + 1]]``."""

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


def scores_and_l2(users: Tensor, items: Tensor, user_bias: Tensor, item_bias: Tensor) -> tuple[Tensor, Tensor]:
    """``u v + b_u + b_v`` and ``u u + v v + b_u b_u + b_v b_v``. [n, k], [n, k]

    ``users`` [n, d] and ``user_bias`` [n, 1], with the items of each [n, k, d] and [n, k, 1].
    """
    found: tuple[Tensor, Tensor] = _Pairs.apply(users, items, user_bias, item_bias)
    return found


class _Pairs(Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, user_bias: Tensor, item_bias: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(users, items, user_bias, item_bias)
        of_item = item_bias[..., 0]
        scores = (users[:, None] * items).sum(dim=-1).add_(user_bias).add_(of_item)
        # a norm goes over memory once, a square and its sum three times
        squares = torch.linalg.vector_norm(items, dim=-1).square_().addcmul_(of_item, of_item)
        of_user = torch.linalg.vector_norm(users, dim=-1, keepdim=True).square_()
        return scores, squares.add_(of_user).addcmul_(user_bias, user_bias)

    @staticmethod
    def backward(ctx: Any, by_score: Tensor, by_square: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        users, items, user_bias, item_bias = ctx.saved_tensors
        twice = 2.0 * by_square
        of_all = twice.sum(dim=1, keepdim=True)
        to_users = users * of_all
        for k in range(items.shape[1]):
            to_users.addcmul_(by_score[:, k : k + 1], items[:, k])
        to_items = (items * twice[..., None]).addcmul_(by_score[..., None], users[:, None])
        to_user_bias = torch.addcmul(by_score.sum(dim=1, keepdim=True), user_bias, of_all)
        return to_users, to_items, to_user_bias, torch.addcmul(by_score[..., None], item_bias, twice[..., None])


_STEPS = 1 << 16


class Dropout(nn.Module):
    """Zero a share ``rate`` (rounded to 2^-16) of numbers in training and scale the rest up to keep the mean.

    Cheap on a CPU: sixteen random bits a number rather than a floating-point draw.
    """

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


def attend(queries: Tensor, keys_values: Tensor, unseen: Tensor, heads: int, dropout: Dropout) -> Tensor:
    """Multi-head softmax attention of each query. [n, Q, d]

    ``queries`` [n, Q, d], ``keys_values`` [n, T, 2 d], the keys first; ``unseen`` [n, Q, T] is added to the scores:
    0, or -inf where a query may not look (each must see one key). ``dropout`` is of the weights.
    """
    shape = heads, *unseen.shape
    factors = dropout.factors(unseen.new_empty(shape))
    read: Tensor = _Attention.apply(queries, keys_values, unseen, heads, factors)
    return read


def attend_once(
    queries: Tensor, states: Tensor, key_value: nn.Linear, unseen: Tensor, heads: int, dropout: Dropout
) -> Tensor:
    """`attend` for a single query each, over the keys and values that ``key_value`` makes of ``states``. [n, 1, d]

    Keys and values are never computed: ``q (W x) = (q W) x``, and a weighted sum of values is the value of the
    weighted sum of states. The bias of the keys is the same for all, so the softmax cancels it.
    ``queries`` [n, 1, d], ``states`` [n, T, d], ``unseen`` [n, 1, T].
    """
    count, part = len(queries), queries.shape[-1] // heads
    to_keys, to_values = key_value.weight.view(2, heads, part, -1)
    asked = torch.einsum("nhp,hpd->nhd", queries.view(count, heads, part), to_keys * part**-0.5)
    weights = torch.softmax(torch.baddbmm(unseen, asked, states.transpose(1, 2)), dim=-1)
    factors = dropout.factors(unseen.new_empty(heads, *unseen.shape))
    if factors is not None:
        weights = weights * factors[:, :, 0].transpose(0, 1)
    read = torch.einsum("nhd,hpd->nhp", torch.bmm(weights, states), to_values)
    bias = key_value.bias.view(2, heads, part)[1]
    return (read + weights.sum(dim=-1, keepdim=True) * bias).reshape(count, 1, heads * part)


class _Attention(Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys_values: Tensor, unseen: Tensor, heads: int, factors: Tensor | None
    ) -> Tensor:
        keys, values = keys_values.chunk(2, dim=-1)
        scale = (queries.shape[-1] / heads) ** -0.5
        weights = unseen.new_empty(heads, *unseen.shape)
        for head, (q, k) in enumerate(_parts(heads, queries, keys)):
            torch.baddbmm(unseen, q, k.transpose(1, 2), alpha=scale, out=weights[head])
        weights.sub_(weights.amax(dim=-1, keepdim=True)).exp_()
        weights.div_(_last_sum(weights))
        dropped = weights if factors is None else weights * factors
        read = torch.empty_like(queries)
        for head, (part, v) in enumerate(_parts(heads, read, values)):
            part.copy_(torch.bmm(dropped[head], v))
        ctx.save_for_backward(queries, keys_values, weights, factors)
        ctx.heads, ctx.scale = heads, scale
        return read

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        queries, keys_values, weights, factors = ctx.saved_tensors
        to_queries, to_keys_values = torch.empty_like(queries), torch.empty_like(keys_values)
        (keys, values), (to_keys, to_values) = (x.chunk(2, dim=-1) for x in (keys_values, to_keys_values))
        dropped = weights if factors is None else weights * factors
        by_weight = torch.empty_like(weights)
        for head, (g, v, to_v) in enumerate(_parts(ctx.heads, grad, values, to_values)):
            torch.bmm(g, v.transpose(1, 2), out=by_weight[head])
            to_v.copy_(torch.bmm(dropped[head].transpose(1, 2), g))
        if factors is not None:
            by_weight.mul_(factors)
        by_score = by_weight.mul_(weights).sub_(weights * _last_sum(by_weight)).mul_(ctx.scale)
        for head, (q, k, to_q, to_k) in enumerate(_parts(ctx.heads, queries, keys, to_queries, to_keys)):
            to_q.copy_(torch.bmm(by_score[head], k))
            to_k.copy_(torch.bmm(by_score[head].transpose(1, 2), q))
        return to_queries, to_keys_values, None, None, None


def _parts(heads: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of the part of each head."""
    return zip(*(tensor.chunk(heads, dim=-1) for tensor in tensors), strict=True)


def _last_sum(x: Tensor) -> Tensor:
    """Sums over the last dimension, which stays with length one."""
    return torch.mv(x.view(-1, x.shape[-1]), x.new_ones(x.shape[-1])).view(*x.shape[:-1], 1)
