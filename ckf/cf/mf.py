"""Matrix factorisation with biases (Koren, Bell and Volinsky 2009), on clicks and, where there are some, ratings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ckf.cf.additive import Additive
from ckf.cf.content import Content
from ckf.cf.embedding import EmbeddingModel, Net
from ckf.cf.items import ItemEncoder, started
from ckf.cf.table import CFData
from ckf.cf.training import shuffled
from ckf.config.schema import MFConfig
from ckf.data.seeds import named_generator


class MFModel(EmbeddingModel):
    """The interaction is ``p_u q_v + d_u + d_v`` (the biases' distance from counting).

    Losses: ``bce`` (clicks, and ratings beside them), ``mse`` (ratings, or clicks where there are none) and
    ``bpr`` (Rendle et al. 2009: a liked item of the user over one not liked, or, for users who dislike
    nothing, over one drawn). The scores of the last two become probabilities by two numbers fitted on val.
    """

    cfg: MFConfig

    def __init__(self, data: CFData, cfg: MFConfig, seed: int) -> None:
        self._pairs = _LikedOverNot(data, seed) if cfg.loss == "bpr" else None
        super().__init__(data, cfg, seed)

    def build(self, content: Content | None, draw: np.random.Generator) -> Net:
        """Factors, small where train has the id and zero elsewhere."""
        return Factors(self.data, content, self.cfg.dim, draw)

    def batches(self) -> Callable[[np.random.Generator], Iterator[np.ndarray]]:
        """All rows; for BPR the liked ones."""
        if self._pairs is None:
            return super().batches()
        liked = self._pairs.liked
        draw = shuffled(len(liked), self.cfg.batch_size)
        return lambda generator: (liked[places] for places in draw(generator))

    def loss(self, rows: Tensor) -> Tensor:
        """The configured loss plus the penalty."""
        if self._pairs is not None:
            return self._bpr(rows)
        if self.cfg.loss == "bce":
            return super().loss(rows)
        users, items, history, offset, clicks, ratings = (column[rows] for column in self._columns)
        interaction, squares = self.net(users, items, history)
        score = offset + interaction
        if self.data.train.has_ratings:
            loss = F.mse_loss(self.stars[0] + self.stars[1] * score, ratings)
        else:
            loss = F.mse_loss(torch.sigmoid(score), clicks)
        return loss + self.cfg.embedding_l2 * squares.mean()

    def _bpr(self, rows: Tensor) -> Tensor:
        assert self._pairs is not None
        users, items, history, offset = (column[rows] for column in self._columns[:4])
        other_items, other_offset = self._pairs.draw(rows.cpu().numpy(), self.additive)
        liked, squares = self.net(users, items, history)
        other, other_squares = self.net(users, other_items.to(self.device), history)
        ahead = offset + liked - other_offset.to(self.device) - other
        return -F.logsigmoid(ahead).mean() + self.cfg.embedding_l2 * (squares + other_squares).mean()

    def _calibrated(self) -> tuple[float, float]:
        from sklearn.linear_model import LogisticRegression

        if self.cfg.loss == "bce" or (self.cfg.loss == "mse" and not self.data.train.has_ratings):
            return 0.0, 1.0
        val = self.data.val
        line = LogisticRegression(C=1e3, max_iter=1000).fit(self.logit(val.batch)[:, None], val.click)
        return float(line.intercept_[0]), float(line.coef_[0, 0])


class Factors(Net):
    """User and item factors and the distance of both biases from counting."""

    def __init__(self, data: CFData, content: Content | None, dim: int, draw: np.random.Generator) -> None:
        super().__init__()
        self.users = started(data.n_users, dim, data.train.user, draw)
        self.items = ItemEncoder(content, data.train.item, data.n_items, dim, draw)
        self.user_bias = started(data.n_users, 1, data.train.user, draw, scale=0.0)
        self.item_bias = started(data.n_items, 1, data.train.item, draw, scale=0.0)

    def forward(self, users: Tensor, items: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Interaction logit and squares of each pair; the history is not read. [n], [n]"""
        p, q = self.users(users), self.items(items)
        moved = self.user_bias(users)[:, 0], self.item_bias(items)[:, 0]
        squares = p.square().sum(1) + q.square().sum(1) + moved[0].square() + moved[1].square()
        return (p * q).sum(1) + moved[0] + moved[1], squares

    def user_side(self, users: Tensor, history: Tensor) -> Tensor:
        """[p_u, d_u]. [n, d + 1]"""
        return torch.cat([self.users(users), self.user_bias(users)], dim=1)

    def item_side(self, items: Tensor) -> Tensor:
        """[q_v, d_v]. [n, d + 1]"""
        return torch.cat([self.items(items), self.item_bias(items)], dim=1)


class _LikedOverNot:
    """Pairs for BPR: for a liked row, another row of its user that was not liked, or an item drawn uniformly."""

    def __init__(self, data: CFData, seed: int) -> None:
        self.train, self.n_items = data.train, data.n_items
        self.generator = named_generator(seed, "bpr negatives")
        self.liked = np.flatnonzero(data.train.click > 0)
        disliked = np.flatnonzero(data.train.click <= 0)
        self.disliked = disliked[np.argsort(data.train.user[disliked], kind="stable")]
        self.count = np.bincount(data.train.user[disliked], minlength=data.n_users + 1)
        self.first = np.cumsum(self.count) - self.count

    def draw(self, rows: np.ndarray, additive: Additive) -> tuple[Tensor, Tensor]:
        """An item less liked for each row, and its additive logit (out of fold where it is a row). [n], [n]"""
        user = self.train.user[rows]
        chance = self.generator.random(len(rows))
        drawn = 1 + (chance * self.n_items).astype(np.int64)
        offset = additive.mean + additive.user[user] + additive.item[drawn]
        has = self.count[user] > 0
        own = self.disliked[self.first[user[has]] + (chance[has] * self.count[user[has]]).astype(np.int64)]
        drawn[has], offset[has] = self.train.item[own], additive.train_logit[own]
        return torch.from_numpy(drawn), torch.from_numpy(offset.astype(np.float32))
