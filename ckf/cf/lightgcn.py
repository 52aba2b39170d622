"""LightGCN (He et al. 2020): vectors smoothed over the graph of users and the items they liked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ckf.cf.content import Content
from ckf.cf.counts import fold_of
from ckf.cf.embedding import EmbeddingModel, Net
from ckf.cf.items import ItemEncoder, started
from ckf.cf.table import CFData, Interactions
from ckf.cf.training import shuffled_within
from ckf.config.schema import LightGCNConfig


class LightGCNModel(EmbeddingModel):
    """The interaction is ``e_u e_v`` of the propagated vectors (He et al. 2020, eq. 7 to 11), biases beside it.

    A batch holds rows of one fold, and its graph leaves that fold's likes out: else every liked training
    row would be an edge of the graph that predicts it, and every other row would not, which is the label.
    Val and test are scored with the whole graph.
    """

    cfg: LightGCNConfig

    def build(self, content: Content | None, draw: np.random.Generator) -> Net:
        """Layer-0 vectors and a graph for each fold."""
        train = self.data.train
        self.fold = fold_of(train, self.cfg.folds, self.seed)
        graphs = [normalised_graph(train.rows(self.fold != number), self.data) for number in range(self.cfg.folds)]
        return Propagated(
            self.data, content, self.cfg.dim, self.cfg.layers, draw,
            whole=normalised_graph(train, self.data), without=graphs, device=self.device,
        )  # fmt: skip

    def batches(self) -> Callable[[np.random.Generator], Iterator[np.ndarray]]:
        """Rows of one fold in a batch."""
        return shuffled_within(self.fold, self.cfg.batch_size)

    def loss(self, rows: Tensor) -> Tensor:
        """As every model's, over the graph without the batch's fold."""
        net = self.net
        assert isinstance(net, Propagated)
        with net.left_out(int(self.fold[int(rows[0])])):
            return super().loss(rows)


class Propagated(Net):
    """Layer-0 vectors of users and items, and their mean over the layers of a graph."""

    def __init__(
        self,
        data: CFData,
        content: Content | None,
        dim: int,
        layers: int,
        draw: np.random.Generator,
        *,
        whole: sparse.csr_matrix,
        without: list[sparse.csr_matrix],
        device: torch.device,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.users = started(data.n_users, dim, data.train.user, draw)
        self.items = ItemEncoder(content, data.train.item, data.n_items, dim, draw)
        self.user_bias = started(data.n_users, 1, data.train.user, draw, scale=0.0)
        self.item_bias = started(data.n_items, 1, data.train.item, draw, scale=0.0)
        self.every_item = torch.arange(data.n_items + 1, device=device)
        self.graphs = [_pair(graph, device) for graph in (whole, *without)]
        self.chosen = 0
        self._kept: tuple[Tensor, Tensor] | None = None

    def left_out(self, fold: int) -> _LeftOut:
        """Within it, the graph lacks a fold's likes."""
        return _LeftOut(self, fold + 1)

    def train(self, mode: bool = True) -> Propagated:
        """Switch the mode; what was propagated with other parameters is forgotten."""
        self._kept = None
        super().train(mode)
        return self

    def propagated(self) -> tuple[Tensor, Tensor]:
        """Mean over layers 0 to L of user and item vectors. [n_users + 1, d], [n_items + 1, d]"""
        if self._kept is not None:
            return self._kept
        forth, back = self.graphs[self.chosen]
        users, items = self.users.weight, self.items(self.every_item)
        sums = users, items
        for _ in range(self.layers):
            users, items = forth @ items, back @ users
            sums = sums[0] + users, sums[1] + items
        means = sums[0] / (self.layers + 1), sums[1] / (self.layers + 1)
        if not self.training and not torch.is_grad_enabled():
            self._kept = means
        return means

    def forward(self, users: Tensor, items: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Interaction logit and squares of the layer-0 vectors of each pair. [n], [n]"""
        user_table, item_table = self.propagated()
        moved = self.user_bias(users)[:, 0], self.item_bias(items)[:, 0]
        squares = self.users(users).square().sum(1) + self.items(items).square().sum(1)
        squares = squares + moved[0].square() + moved[1].square()
        return (user_table[users] * item_table[items]).sum(1) + moved[0] + moved[1], squares

    def user_side(self, users: Tensor, history: Tensor) -> Tensor:
        """[e_u, d_u]. [n, d + 1]"""
        return torch.cat([self.propagated()[0][users], self.user_bias(users)], dim=1)

    def item_side(self, items: Tensor) -> Tensor:
        """[e_v, d_v]. [n, d + 1]"""
        return torch.cat([self.propagated()[1][items], self.item_bias(items)], dim=1)


class _LeftOut:
    """Swaps the graph for the time of a ``with`` block."""

    def __init__(self, net: Propagated, graph: int) -> None:
        self.net, self.graph = net, graph

    def __enter__(self) -> None:
        self.net.chosen = self.graph

    def __exit__(self, *failure: object) -> None:
        self.net.chosen = 0


def normalised_graph(rows: Interactions, data: CFData) -> sparse.csr_matrix:
    """Likes over the root of the product of both degrees (He et al. 2020, eq. 3). [n_users + 1, n_items + 1]"""
    liked = rows.click > 0
    place = rows.user[liked], rows.item[liked]
    graph = sparse.csr_matrix((np.ones(len(place[0])), place), shape=(data.n_users + 1, data.n_items + 1))
    users, items = (np.maximum(1.0, np.asarray(graph.sum(axis=axis)).ravel()) for axis in (1, 0))
    return sparse.csr_matrix(sparse.diags(users**-0.5) @ graph @ sparse.diags(items**-0.5))


def _pair(graph: sparse.csr_matrix, device: torch.device) -> tuple[Tensor, Tensor]:
    """The graph and its transpose as torch tensors."""
    return _tensor(graph, device), _tensor(sparse.csr_matrix(graph.T), device)


def _tensor(graph: sparse.csr_matrix, device: torch.device) -> Tensor:
    coordinates = graph.tocoo()
    places = torch.from_numpy(np.stack([coordinates.row, coordinates.col]).astype(np.int64))
    values = torch.from_numpy(coordinates.data.astype(np.float32))
    return torch.sparse_coo_tensor(places, values, graph.shape, device=device, check_invariants=True).coalesce()
