"""Softmax attention over short sequences, its gradient in closed form.

Torch's softmax over a last dimension of ten takes longer than all the products of an attention; here the
sums are a matrix product, and no head is copied out of its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ckf.cf.nn.dropout import Dropout


def attend(queries: Tensor, keys_values: Tensor, unseen: Tensor, heads: int, dropout: Dropout) -> Tensor:
    """Softmax-weighed values of each query, in ``heads`` parts of the width. [n, Q, d]

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

    They are not made: ``q (W x) = (q W) x``, weighed values are the values of the weighed states, and what is
    then left for every state are dot products. The bias of a key is the same for all, so the softmax drops it.
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
