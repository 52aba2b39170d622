"""Common part of mf, lightgcn, sasrec and din: bias terms, fitting, predictions and exported vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional as F

from ckf.cf.bpr_sampling import BPRSampler
from ckf.cf.data import CFBatch, CFData
from ckf.cf.features.bias_terms import Additive
from ckf.cf.features.titles import Content
from ckf.cf.popularity_prior import Ranking
from ckf.cf.trainer import OnEpoch, Schedule, fit, shuffled
from ckf.cf.val_choice import val_choice
from ckf.cf.vectors.cold_start import default_vector
from ckf.config.schema import EmbeddingConfig
from ckf.core.rng import generator_for

_CHUNK = 65_536


class Net(nn.Module, ABC):
    """The learned part: logits of pairs, and the vectors they are made of. Ids are within the tables."""

    user_bias: nn.Embedding
    item_bias: nn.Embedding

    @abstractmethod
    def forward(self, users: Tensor, items: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Interaction logits of users [n] with items [n, k], and the squares of the vectors touched. [n, k], [n, k]"""

    @abstractmethod
    def user_side(self, users: Tensor, history: Tensor) -> Tensor:
        """User vectors, the last number the learned part of the user's bias. [n, d + 1]"""

    @abstractmethod
    def item_side(self, items: Tensor) -> Tensor:
        """Item vectors, the last number the learned part of the item's bias. [n, d + 1]"""


class EmbeddingModel(ABC):
    """``s = mean + b_u + b_v + net(u, v, history)``: clicks by ``sigmoid(s)``, ratings by ``a + c s``.

    The bias terms (`Additive`) are counted and fixed, and out of fold while training. The exported vectors are
    ``[p_u, b_u]`` and ``[q_v, b_v]``. A user without training rows has the zero vector (plus that of the history
    in models that read one), an item the vector of its title; the model scores them so too, and likewise ids
    beyond the tables.

    Losses: ``bce`` (of clicks, plus squared error of any ratings), ``bpr`` and ``sampled_bce`` (of pairs of
    `BPRSampler`). Scores of the last two become probabilities by Platt scaling on val.

    Without ``bias_terms`` (the published models) ``s = net(u, v, history)`` and the last number of each exported
    vector, the bias, is 0.
    """

    family: ClassVar[str]
    """The model's name in names of random draws, the same for its published form and its plus form."""

    def __init__(self, data: CFData, cfg: EmbeddingConfig, seed: int, on_epoch: OnEpoch | None = None) -> None:
        self.data, self.cfg, self.seed = data, cfg, seed
        self.history_items = cfg.reads_history
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._choice = val_choice(f"{cfg.name}: the epoch", data)
        content = Content(data.titles, data.n_items)
        if cfg.bias_terms:
            self.additive = Additive(data, content, cfg.shrinkage, cfg.folds, seed)
        else:
            self.additive = Additive.none(data)
        over_pairs = cfg.loss in ("bpr", "sampled_bce")
        self._pairs = BPRSampler(data, seed, cfg.negatives) if over_pairs else None
        draw = generator_for(seed, f"{self.family} start")
        with torch.random.fork_rng(devices=[]):  # layers draw from torch's own state when they are made
            torch.manual_seed(int(draw.integers(2**62)))
            self.net = self.build(content if cfg.title_features else None, draw)
        for bias in (self.net.user_bias, self.net.item_bias):  # they start at zero, and stay there
            bias.requires_grad_(cfg.bias_terms)
        self.stars = nn.Parameter(torch.tensor([data.train.rating.mean() if data.train.has_ratings else 0.0, 1.0]))
        self.net.register_parameter("stars", self.stars)
        self.net.to(self.device)
        self._columns = self._training_columns()
        self.fitted = fit(
            self.net, self.batches(), self.loss, self._val_figures, self._schedule(), seed, self.family, on_epoch
        )
        del self._columns
        self.scale = self._calibrated()
        self.ranking = Ranking.fit(data, self.logit, seed) if cfg.bias_terms else Ranking.by_score(data)
        self.metadata: dict[str, Any] = {
            "checkpoint_rule": self._choice.rule,
            **self.fitted.best,
            "epoch": self.fitted.epoch,
            "epochs_run": self.fitted.epochs_run,
            "ranking": self.ranking.metadata,
        }

    # --- what a subclass defines or overrides

    @abstractmethod
    def build(self, content: Content | None, draw: np.random.Generator) -> Net:
        """The learned part at its start."""

    def groups(self) -> np.ndarray | None:
        """Groups of training rows [n] that do not share a batch; None: any rows do."""
        return None

    def batches(self) -> Callable[[np.random.Generator], Iterator[np.ndarray]]:
        """How an epoch's rows are cut into batches: all of them, for BPR the liked ones."""
        rows = np.arange(len(self.data.train.user)) if self._pairs is None else self._pairs.liked
        return shuffled(rows, self.cfg.batch_size, self.groups())

    def loss(self, rows: Tensor) -> Tensor:
        """The configured loss plus the penalty.

        ``bpr``: -log sigmoid of how far the liked item is ahead (Rendle et al. 2009); ``sampled_bce``: cross-entropy
        of the liked item and of the other (Kang and McAuley 2018, eq. 7).
        """
        if self._pairs is None:
            users, items, history, offset, clicks, ratings = (column.index_select(0, rows) for column in self._columns)
            interaction, squares = self.net(users, items[:, None], history)
            return self.row_loss(offset + interaction[:, 0], clicks, ratings) + self.cfg.embedding_l2 * squares.mean()
        users, items, history, offset = (column.index_select(0, rows) for column in self._columns[:4])
        other, other_offset = self._pairs.draw(rows.cpu().numpy(), self.additive)
        items = torch.stack([items, torch.from_numpy(other).to(self.device)], dim=1)
        interaction, squares = self.net(users, items, history)
        if self.cfg.loss == "sampled_bce":
            levels = torch.stack([offset, torch.from_numpy(other_offset.astype(np.float32)).to(self.device)], dim=1)
            signed = (levels + interaction) * interaction.new_tensor([1.0, -1.0])
            return -F.logsigmoid(signed).sum() / len(signed) + self.cfg.embedding_l2 * squares.sum() / len(squares)
        ahead = offset - torch.from_numpy(other_offset.astype(np.float32)).to(self.device)
        ahead = ahead + interaction.mv(interaction.new_tensor([1.0, -1.0]))  # one product, backward too
        return -F.logsigmoid(ahead).mean() + self.cfg.embedding_l2 * squares.sum() / len(squares)

    def row_loss(self, score: Tensor, clicks: Tensor, ratings: Tensor) -> Tensor:
        """Clicks by cross-entropy and, where there are some, ratings by squared error; from scores [n]."""
        loss = F.binary_cross_entropy_with_logits(score, clicks)
        if self.data.train.has_ratings:
            loss = loss + 0.5 * F.mse_loss(self.stars[0] + self.stars[1] * score, ratings)
        return loss

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
        """Weighted sum of popularity and click logit, weights fitted on val. [n]"""
        return self.ranking.score(batch.within(self.data.n_users, self.data.n_items).item, self.logit(batch))

    def logit(self, batch: CFBatch) -> np.ndarray:
        """The score s of each pair. [n]"""
        batch = batch.within(self.data.n_users, self.data.n_items)
        counted = self.additive.mean + self.additive.user[batch.user] + self.additive.item[batch.item]
        return counted + self._by_chunks(
            batch, lambda users, items, history: self.net(users, items[:, None], history)[0][:, 0]
        )

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

    def nulls(self, item_table: np.ndarray, l2: float) -> tuple[np.ndarray, np.ndarray]:
        """One vector for all cold users and one for all cold items, learned on the training rows. [d + 1], [d + 1]"""
        train, mean = self.data.train, self.additive.mean
        of_user = default_vector(item_table[train.item], train.click, mean, l2)
        return of_user, default_vector(self.user_vectors(train.batch), train.click, mean, l2)

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
        self.net.eval()
        return self._choice.figures(self.logit(self._choice.batch))

    def _calibrated(self) -> tuple[float, float]:
        """Offset and slope from score to click logit; the score is one already where clicks were the loss.

        Against drawn negatives it is not: there are more of them a like in train than where clicks are predicted.
        """
        if self.clicks_are_the_loss and self.data.negatives is None:
            return 0.0, 1.0
        from sklearn.linear_model import LogisticRegression

        val = self.data.val
        line = LogisticRegression(C=1e3, max_iter=1000).fit(self.logit(val.batch)[:, None], val.click)
        return float(line.intercept_[0]), float(line.coef_[0, 0])

    @property
    def clicks_are_the_loss(self) -> bool:
        """Whether the score was trained to be the logit of a click."""
        return self.cfg.loss == "bce"


def _columns(batch: CFBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return batch.user, batch.item, batch.history
