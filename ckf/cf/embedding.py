"""What mf, lightgcn, sasrec and din share: the additive start, the fit, predictions and exported vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional as F

from ckf.cf.additive import Additive
from ckf.cf.content import Content
from ckf.cf.ranking import Ranking
from ckf.cf.table import CFBatch, CFData
from ckf.cf.training import CHECKPOINT_RULE, Schedule, fit, shuffled
from ckf.config.schema import EmbeddingConfig
from ckf.data.seeds import named_generator
from ckf.errors import DataError
from ckf.metrics import auc, uauc

_CHUNK = 65_536


class Net(nn.Module):
    """The learned part: logits of pairs, and the vectors they are made of. Ids are within the tables."""

    def forward(self, users: Tensor, items: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Interaction logit of each pair [n], and the squares of the vectors that it touched [n]."""
        raise NotImplementedError

    def user_side(self, users: Tensor, history: Tensor) -> Tensor:
        """User vectors, the last number the learned part of the user's bias. [n, d + 1]"""
        raise NotImplementedError

    def item_side(self, items: Tensor) -> Tensor:
        """Item vectors, the last number the learned part of the item's bias. [n, d + 1]"""
        raise NotImplementedError


class EmbeddingModel:
    """``s = mean + b_u + b_v + net(u, v, history)``: clicks by ``sigmoid(s)``, ratings by ``a + c s``.

    The additive part is counting (`Additive`), fixed, and out of fold while training. The exported vectors
    are ``[p_u, b_u]`` and ``[q_v, b_v]``: a fusion sees all that the model knows. A user that train never
    met has the zero vector (with a history: what the history says), an item what its title says, and
    that is how the model itself scores them; ids beyond the tables count as such.
    """

    def __init__(self, data: CFData, cfg: EmbeddingConfig, seed: int) -> None:
        self.data, self.cfg, self.seed = data, cfg, seed
        self.history_items = cfg.reads_history
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if len(np.unique(data.val.click)) < 2:  # or no epoch would beat the start, and the model would be the floor
            raise DataError(
                f"{cfg.name}: the epoch is chosen by val AUC, but all {len(data.val.click)} val rows are of one class"
            )
        content = Content(data.titles, data.n_items)
        self.additive = Additive(data, content, cfg.pseudo_counts, cfg.folds, seed)
        draw = named_generator(seed, f"{cfg.name} start")
        with torch.random.fork_rng(devices=[]):  # layers draw from torch's own state when they are made
            torch.manual_seed(int(draw.integers(2**62)))
            self.net = self.build(content if cfg.content else None, draw)
        self.stars = nn.Parameter(torch.tensor([data.train.rating.mean() if data.train.has_ratings else 0.0, 1.0]))
        self.net.register_parameter("stars", self.stars)
        self.net.to(self.device)
        self._columns = self._training_columns()
        self.fitted = fit(self.net, self.batches(), self.loss, self._val_figures, self._schedule(), seed, cfg.name)
        del self._columns
        self.scale = self._calibrated()
        self.ranking = Ranking.fit(data, self.logit, seed)
        self.card: dict[str, Any] = {
            "checkpoint_rule": CHECKPOINT_RULE,
            **self.fitted.best,
            "epoch": self.fitted.epoch,
            "epochs_run": self.fitted.epochs_run,
            "ranking": self.ranking.card,
        }

    # --- what a model brings

    def build(self, content: Content | None, draw: np.random.Generator) -> Net:
        """The learned part at its start."""
        raise NotImplementedError

    def batches(self) -> Callable[[np.random.Generator], Iterator[np.ndarray]]:
        """How an epoch's rows are cut into batches."""
        return shuffled(len(self.data.train.user), self.cfg.batch_size)

    def loss(self, rows: Tensor) -> Tensor:
        """Clicks by cross-entropy and, where there are some, ratings by squared error, plus the penalty."""
        users, items, history, offset, clicks, ratings = (column[rows] for column in self._columns)
        interaction, squares = self.net(users, items, history)
        score = offset + interaction
        loss = F.binary_cross_entropy_with_logits(score, clicks)
        if self.data.train.has_ratings:
            loss = loss + 0.5 * F.mse_loss(self.stars[0] + self.stars[1] * score, ratings)
        return loss + self.cfg.embedding_l2 * squares.mean()

    def sizes(self) -> tuple[tuple[int, np.ndarray], tuple[int, np.ndarray]]:
        """Largest id and the ids met in train, of users and of items."""
        data = self.data
        return (data.n_users, data.train.user), (data.n_items, data.train.item)

    # --- predictions

    def click_probability(self, batch: CFBatch) -> np.ndarray:
        """P(click) of each pair. [n]"""
        return expit(self.scale[0] + self.scale[1] * self.logit(batch))

    def rating(self, batch: CFBatch) -> np.ndarray:
        """Expected rating of each pair; NaN where train has no ratings. [n]"""
        train = self.data.train
        if not train.has_ratings:
            return np.full(len(batch), np.nan)
        offset, slope = self.stars.tolist()
        return np.clip(offset + slope * self.logit(batch), train.rating.min(), train.rating.max())

    def rank_score(self, batch: CFBatch) -> np.ndarray:
        """Popularity and liking, weighed on val. [n]"""
        return self.ranking.score(batch.within(self.data.n_users, self.data.n_items).item, self.logit(batch))

    def logit(self, batch: CFBatch) -> np.ndarray:
        """The score s of each pair. [n]"""
        batch = batch.within(self.data.n_users, self.data.n_items)
        counted = self.additive.mean + self.additive.user[batch.user] + self.additive.item[batch.item]
        return counted + self._by_chunks(batch, lambda users, items, history: self.net(users, items, history)[0])

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """User table [n_users + 1, d + 1] (for an empty history) and item table [n_items + 1, d + 1]."""
        users = np.arange(self.data.n_users + 1)
        items = np.arange(self.data.n_items + 1)
        empty = np.zeros((len(users), self.history_items), dtype=np.int32)
        user_table = self.user_vectors(CFBatch(users, np.zeros_like(users), empty))
        pairs = CFBatch.of_pairs(np.zeros_like(items), items)
        item_table = self._by_chunks(pairs, lambda _, items, __: self.net.item_side(items))
        item_table[:, -1] += self.additive.item
        item_table[0] = 0.0
        return user_table, item_table.astype(np.float32)

    def user_vectors(self, batch: CFBatch) -> np.ndarray:
        """The user side at the time of each pair: user and history alone. [n, d + 1]"""
        batch = batch.within(self.data.n_users, self.data.n_items)
        side = self._by_chunks(batch, lambda users, _, history: self.net.user_side(users, history))
        side[:, -1] += self.additive.user[batch.user]
        return side.astype(np.float32)

    @property
    def epochs(self) -> list[dict[str, float]]:
        """What was measured after each epoch."""
        return self.fitted.history

    @torch.no_grad()
    def _by_chunks(self, batch: CFBatch, what: Callable[[Tensor, Tensor, Tensor], Tensor]) -> np.ndarray:
        parts = []
        for start in range(0, max(1, len(batch)), _CHUNK):
            part = batch.rows(slice(start, start + _CHUNK))
            columns = (torch.from_numpy(np.asarray(x, dtype=np.int64)).to(self.device) for x in _columns(part))
            parts.append(what(*columns).double().cpu().numpy())
        return np.concatenate(parts)

    # --- fitting

    def _training_columns(self) -> tuple[Tensor, ...]:
        train = self.data.train
        ids = (torch.from_numpy(np.asarray(x, dtype=np.int64)) for x in _columns(train.batch))
        values = (
            torch.from_numpy(np.asarray(x, np.float32)) for x in (self.additive.train_logit, train.click, train.rating)
        )
        return tuple(column.to(self.device) for column in (*ids, *values))

    def _schedule(self) -> Schedule:
        cfg = self.cfg
        decay = getattr(cfg, "weight_decay", 0.0)
        return Schedule(cfg.epochs, cfg.patience_epochs, cfg.batch_size, cfg.learning_rate, decay)

    def _val_figures(self) -> dict[str, float]:
        val = self.data.val
        self.net.eval()
        score = self.logit(val.batch)
        by_user, _ = uauc(val.click, score, val.user)
        return {"val_auc": round(auc(val.click, score), 6), "val_uauc": round(by_user, 6)}

    def _calibrated(self) -> tuple[float, float]:
        """Offset and slope from score to click logit; the score is one already where clicks were the loss."""
        return 0.0, 1.0


def _columns(batch: CFBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return batch.user, batch.item, batch.history
