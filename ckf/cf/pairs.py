"""Dot products of users with items and the squares of both, their gradients in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def dots_and_squares(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """``u v`` and ``u u + v v`` of users [n, d] and the items of each [n, k, d]. [n, k], [n, k]"""
    found: tuple[Tensor, Tensor] = _Pairs.apply(users, items)
    return found


class _Pairs(Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(users, items)
        dots = (users[:, None] * items).sum(dim=-1)
        return dots, users.square().sum(dim=-1, keepdim=True) + items.square().sum(dim=-1)

    @staticmethod
    def backward(ctx: Any, by_dot: Tensor, by_square: Tensor) -> tuple[Tensor, Tensor]:
        users, items = ctx.saved_tensors
        of_users = users * (2.0 * by_square.sum(dim=1, keepdim=True))
        for k in range(items.shape[1]):
            of_users.addcmul_(by_dot[:, k : k + 1], items[:, k])
        of_items = torch.addcmul(items * (2.0 * by_square)[..., None], by_dot[..., None], users[:, None])
        return of_users, of_items
