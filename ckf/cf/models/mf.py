"""Matrix factorisation with biases (Koren, Bell and Volinsky 2009), on clicks and, where there are some, ratings."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ckf.cf.data import CFData
from ckf.cf.features.titles import Content
from ckf.cf.models.embedding_model import EmbeddingModel, Net
from ckf.cf.nn.item_encoder import ItemEncoder, init_embedding
from ckf.cf.nn.kernels import scores_and_l2
from ckf.config.schema import MFConfig


class MFModel(EmbeddingModel):
    """The interaction is ``p_u q_v + d_u + d_v`` (Koren, Bell and Volinsky 2009, eq. 4; ``d`` corrects the bias terms).

    One more loss: ``mse`` (of ratings, or of clicks where there are none), calibrated like ``bpr``.
    """

    family = "mf"
    cfg: MFConfig

    def build(self, content: Content | None, draw: np.random.Generator) -> Net:
        """Factors, small where train has the id and zero elsewhere."""
        return MFNet(self.data, content, self.cfg.dim, draw)

    def row_loss(self, score: Tensor, clicks: Tensor, ratings: Tensor) -> Tensor:
        """``mse``: ratings from scores [n] on the scale of stars, clicks from probabilities."""
        if self.cfg.loss != "mse":
            return super().row_loss(score, clicks, ratings)
        if self.data.train.has_ratings:
            return F.mse_loss(self.stars[0] + self.stars[1] * score, ratings)
        return F.mse_loss(torch.sigmoid(score), clicks)

    @property
    def clicks_are_the_loss(self) -> bool:
        """Also where squared error is of clicks."""
        return super().clicks_are_the_loss or (self.cfg.loss == "mse" and not self.data.train.has_ratings)


class MFNet(Net):
    """User and item factors, and corrections of the two bias terms."""

    def __init__(self, data: CFData, content: Content | None, dim: int, draw: np.random.Generator) -> None:
        super().__init__()
        self.users = init_embedding(data.n_users, dim, data.train.user, draw)
        self.items = ItemEncoder(content, data.train.item, data.n_items, dim, draw)
        self.user_bias = init_embedding(data.n_users, 1, data.train.user, draw, scale=0.0)
        self.item_bias = init_embedding(data.n_items, 1, data.train.item, draw, scale=0.0)

    def forward(self, users: Tensor, items: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Interaction logits and squares of users [n] with items [n, k]; the history is not read. [n, k], [n, k]"""
        return scores_and_l2(self.users(users), self.items(items), self.user_bias(users), self.item_bias(items))

    def user_side(self, users: Tensor, history: Tensor) -> Tensor:
        """[p_u, d_u]. [n, d + 1]"""
        return torch.cat([self.users(users), self.user_bias(users)], dim=1)

    def item_side(self, items: Tensor) -> Tensor:
        """[q_v, d_v]. [n, d + 1]"""
        return torch.cat([self.items(items), self.item_bias(items)], dim=1)
