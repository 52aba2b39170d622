"""Scores of users with items and the squares of all that they are made of, their gradients in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


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
