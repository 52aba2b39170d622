"""DIN (Zhou et al. 2018): a user vector for each candidate, by attention of the candidate over the history."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ckf.cf.features.titles import Content
from ckf.cf.models.embedding_model import EmbeddingModel, Net
from ckf.cf.nn.item_encoder import ItemEncoder, init_embedding
from ckf.config.schema import DINConfig


class DINModel(EmbeddingModel):
    """Weigh each liked item by an activation unit (eq. 3) and score the weighted sum with a small network.

    The exported user vector is ``p_u`` plus the history's unweighted mean, as DIN's own depends on the candidate.
    """

    family = "din"
    cfg: DINConfig

    def build(self, content: Content | None, draw: np.random.Generator) -> Net:
        """Embeddings, the activation unit and the network on top."""
        cfg, data = self.cfg, self.data
        users = init_embedding(data.n_users, cfg.dim, data.train.user, draw)
        items = ItemEncoder(content, data.train.item, data.n_items, cfg.dim, draw)
        biases = [init_embedding(n, 1, seen, draw, scale=0.0) for n, seen in self.sizes()]
        hidden = (cfg.hidden, cfg.second_hidden) if cfg.second_hidden else (cfg.hidden,)
        return DINNet(
            users,
            items,
            cfg.attention_hidden,
            hidden,
            cfg.dropout,
            *biases,
            normalize_attention=cfg.normalize_attention,
            dot_product=cfg.dot_product,
        )


class DINNet(Net):
    """Activation unit, weighted sum, network.

    With ``dot_product`` the score is the product of user side and candidate plus the network's, whose last layer
    starts at zero; without it the network's alone (Zhou et al. 2018, fig. 2).
    """

    def __init__(
        self,
        users: nn.Embedding,
        items: ItemEncoder,
        attention_hidden: int,
        hidden: tuple[int, ...],
        dropout: float,
        user_bias: nn.Embedding,
        item_bias: nn.Embedding,
        *,
        normalize_attention: bool,
        dot_product: bool,
    ) -> None:
        super().__init__()
        dim = users.embedding_dim
        self.users, self.items = users, items
        self.normalize_attention, self.dot_product = normalize_attention, dot_product
        self.user_bias, self.item_bias = user_bias, item_bias
        self.activation = nn.Sequential(
            nn.Linear(4 * dim, attention_hidden), nn.PReLU(), nn.Linear(attention_hidden, 1)
        )
        layers: list[nn.Module] = []
        for below, width in zip((4 * dim, *hidden), hidden, strict=False):
            layers += [nn.Linear(below, width), nn.PReLU(), nn.Dropout(dropout)]
        self.top = nn.Sequential(*layers)
        self.output = nn.Linear(hidden[-1], 1, bias=not dot_product)
        if dot_product:
            nn.init.zeros_(self.output.weight)

    def pooled(self, candidate: Tensor, history: Tensor) -> Tensor:
        """Sum of the history's vectors weighed by the activation unit (Zhou et al. 2018, eq. 3), padding out.

        With ``normalize_attention`` the weights are a softmax over the items that are there, so that long histories
        do not outweigh short ones. Candidates [n, k, d] and histories [n, H]. [n, k, d]
        """
        h, there = self.items(history)[:, None], (history > 0)[:, None]
        wide = candidate[:, :, None].expand(-1, -1, history.shape[1], -1)
        h = h.expand_as(wide)
        weight = self.activation(torch.cat([h, wide, h - wide, h * wide], dim=-1))[..., 0]
        if self.normalize_attention:
            weight = torch.softmax(weight.masked_fill(~there, -1e9), dim=-1)
        weight = weight * there
        return (weight[..., None] * h).sum(dim=-2)

    def forward(self, users: Tensor, items: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Interaction logits and squares of the vectors of users [n] with items [n, k]. [n, k], [n, k]"""
        p, q = self.users(users)[:, None], self.items(items)
        pooled = self.pooled(q, history)
        moved = self.user_bias(users), self.item_bias(items)[..., 0]
        squares = p.square().sum(-1) + q.square().sum(-1) + pooled.square().sum(-1)
        squares = squares + moved[0].square() + moved[1].square()
        score = self.output(self.top(torch.cat([p.expand_as(q), q, pooled, pooled * q], dim=-1)))[..., 0]
        if self.dot_product:
            score = score + ((p + pooled) * q).sum(-1)
        return score + moved[0] + moved[1], squares

    def user_side(self, users: Tensor, history: Tensor) -> Tensor:
        """[p_u + mean of the history, d_u]. [n, d + 1]"""
        there = history > 0
        mean = (self.items(history) * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([self.users(users) + mean, self.user_bias(users)], dim=1)

    def item_side(self, items: Tensor) -> Tensor:
        """[q_v, d_v]. [n, d + 1]"""
        return torch.cat([self.items(items), self.item_bias(items)], dim=1)
