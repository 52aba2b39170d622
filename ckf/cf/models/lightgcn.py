"""LightGCN (He et al. 2020): vectors smoothed over the graph of users and the items they liked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ckf.cf.data import CFData
from ckf.cf.features.counts import fold_ids
from ckf.cf.features.titles import Content
from ckf.cf.models.embedding_model import EmbeddingModel, Net
from ckf.cf.nn.item_encoder import ItemEncoder, init_embedding
from ckf.cf.nn.kernels import SparseMatrix, rows_of, spmm
from ckf.config.schema import LightGCNConfig


class LightGCNModel(EmbeddingModel):
    """The interaction is ``e_u e_v`` of the propagated vectors (He et al. 2020, eq. 7 to 11), plus biases.

    A batch holds rows of one fold, and its graph omits the likes of that fold. Otherwise exactly the liked
    training rows would be edges of the graph that predicts them, which gives away the label.
    Val and test are scored with the whole graph. Without ``hold_out_edges``, as published, every batch is too.
    """

    family = "lightgcn"
    cfg: LightGCNConfig

    def build(self, content: Content | None, draw: np.random.Generator) -> Net:
        """Layer-0 vectors and the graph, whose likes know their fold."""
        self.fold = fold_ids(self.data.train, self.cfg.folds, self.seed)
        graph = UserItemGraph(self.data, self.fold, self.cfg.folds, self.device)
        return LightGCNNet(self.data, content, self.cfg.dim, self.cfg.layers, draw, graph)

    def groups(self) -> np.ndarray | None:
        """Rows of one fold in a batch, where its edges are held out."""
        return self.fold if self.cfg.hold_out_edges else None

    def loss(self, rows: Tensor) -> Tensor:
        """Loss of the rows, over the graph without the batch's fold."""
        if not self.cfg.hold_out_edges:
            return super().loss(rows)
        net = self.net
        assert isinstance(net, LightGCNNet)
        with net.left_out(int(self.fold[int(rows[0])])):
            return super().loss(rows)


class UserItemGraph:
    """The likes of train as edges, in the order of users and in that of items; any fold of them can be left out.

    An edge weighs one over the root of the product of both degrees (He et al. 2020, eq. 3), nothing if left out.
    """

    def __init__(self, data: CFData, fold: np.ndarray, folds: int, device: torch.device) -> None:
        liked = np.flatnonzero(data.train.click > 0)
        liked = liked[np.argsort(data.train.user[liked], kind="stable")]
        user, item = data.train.user[liked], data.train.item[liked]
        by_item = np.argsort(item, kind="stable")
        heights = data.n_users + 1, data.n_items + 1
        self.to_users = SparseMatrix.of(user, item, heights[0], device)
        self.to_items = SparseMatrix.of(item[by_item], user[by_item], heights[1], device)
        self.by_item = torch.from_numpy(by_item).to(device)
        self.fold = torch.from_numpy(fold[liked].astype(np.int16)).to(device)
        self.user = torch.from_numpy(user.astype(np.int32)).to(device)
        self.roots = [
            tuple(
                torch.from_numpy(root.astype(np.float32)).to(device)
                for root in _roots(user, item, fold[liked] != number, heights)
            )
            for number in range(-1, folds)  # -1: all are kept
        ]

    def weights(self, without: int | None = None) -> tuple[Tensor, Tensor]:
        """Weights of the edges in both orders, those of the fold ``without`` zero. [edges], [edges]"""
        users, items = self.roots[0 if without is None else without + 1]
        weights = users.index_select(0, self.user) * items.index_select(0, self.to_users.columns)
        if without is not None:
            weights *= self.fold != without
        return weights, weights.index_select(0, self.by_item)


def _roots(
    user: np.ndarray, item: np.ndarray, kept: np.ndarray, heights: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Degrees to the power of -1/2 of users and items, counting the ``kept`` edges."""
    degrees = (np.bincount(ids[kept], minlength=height) for ids, height in zip((user, item), heights, strict=True))
    users, items = (np.maximum(1.0, degree) ** -0.5 for degree in degrees)
    return users, items


class LightGCNNet(Net):
    """Layer-0 vectors of users and items, and their mean over the layers of a graph."""

    def __init__(
        self,
        data: CFData,
        content: Content | None,
        dim: int,
        layers: int,
        draw: np.random.Generator,
        graph: UserItemGraph,
    ) -> None:
        super().__init__()
        self.layers, self.graph = layers, graph
        # a step moves every vector, through the graph: dense gradients
        self.users = init_embedding(data.n_users, dim, data.train.user, draw, sparse=False)
        self.items = ItemEncoder(content, data.train.item, data.n_items, dim, draw, sparse=False)
        self.user_bias = init_embedding(data.n_users, 1, data.train.user, draw, scale=0.0)
        self.item_bias = init_embedding(data.n_items, 1, data.train.item, draw, scale=0.0)
        self.without: int | None = None
        self._kept: tuple[Tensor, Tensor] | None = None

    @contextmanager
    def left_out(self, fold: int) -> Iterator[None]:
        """Within it, the graph lacks a fold's likes."""
        self.without = fold
        try:
            yield
        finally:
            self.without = None

    def train(self, mode: bool = True) -> LightGCNNet:
        """Switch the mode; what was propagated with other parameters is forgotten."""
        self._kept = None
        super().train(mode)
        return self

    def propagated(self) -> tuple[Tensor, Tensor]:
        """Mean over layers 0 to L of user and item vectors. [n_users + 1, d], [n_items + 1, d]"""
        if self._kept is not None:
            return self._kept
        graph, (by_user, by_item) = self.graph, self.graph.weights(self.without)
        users, items = self.users.weight, self.items.every()
        sums = users, items
        for _ in range(self.layers):
            users, items = (
                spmm(graph.to_users, graph.to_items, items, (by_user, by_item)),
                spmm(graph.to_items, graph.to_users, users, (by_item, by_user)),
            )
            sums = sums[0] + users, sums[1] + items
        means = sums[0] / (self.layers + 1), sums[1] / (self.layers + 1)
        if not self.training and not torch.is_grad_enabled():
            self._kept = means
        return means

    def forward(self, users: Tensor, items: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Interaction logits and squares of the layer-0 vectors of users [n] with items [n, k]. [n, k], [n, k]"""
        user_table, item_table = self.propagated()
        moved = self.user_bias(users), self.item_bias(items)[..., 0]
        squares = self.users(users).square().sum(-1, keepdim=True) + self.items(items).square().sum(-1)
        squares = squares + moved[0].square() + moved[1].square()
        scores = (rows_of(user_table, users)[:, None] * rows_of(item_table, items)).sum(-1)
        return scores + moved[0] + moved[1], squares

    def user_side(self, users: Tensor, history: Tensor) -> Tensor:
        """[e_u, d_u]. [n, d + 1]"""
        return torch.cat([self.propagated()[0][users], self.user_bias(users)], dim=1)

    def item_side(self, items: Tensor) -> Tensor:
        """[e_v, d_v]. [n, d + 1]"""
        return torch.cat([self.propagated()[1][items], self.item_bias(items)], dim=1)
