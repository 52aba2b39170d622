"""Matrix factorisation with biases (Koren, Bell and Volinsky 2009), on clicks and, where there are some, ratings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ckf.cf.bias import BiasModel, logits
from ckf.cf.table import CFData
from ckf.config.schema import MFConfig
from ckf.data.seeds import named_generator
from ckf.errors import DataError
from ckf.metrics import auc


class MFModel:
    """``s = mu + b_u + b_v + p_u q_v``; clicks by ``sigmoid(s)``, ratings by ``a + c s`` with a, c learned.

    The biases start at the floor's, so that training adds the interaction to counting. The exported
    vectors are ``[p_u, b_u]`` and ``[q_v, b_v]``: a fusion sees all that the model knows. An id that
    train never met has the zero vector, which is the average user or item, in the model as in the export.
    """

    def __init__(self, data: CFData, cfg: MFConfig, seed: int) -> None:
        self.data, self.cfg = data, cfg
        floor = BiasModel(data, pseudo_counts=5.0)
        self.low = floor.low if floor.rated else 0.0
        self.high = floor.high if floor.rated else 1.0
        self.net = _Factors(data, cfg.dim, floor, seed)
        self.card: dict[str, Any] = {}
        self._fit(seed)
        self.net.requires_grad_(False)

    # --- predictions

    def click_probability(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """P(click) of each pair. [n]"""
        return expit(self.rank_score(users, items))

    def rating(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Expected rating of each pair; NaN where the dataset has no ratings. [n]"""
        if not self.data.train.has_ratings:
            return np.full(len(users), np.nan)
        value = float(self.net.offset) + float(self.net.slope) * self.rank_score(users, items)
        return np.clip(value, self.low, self.high)

    @torch.no_grad()
    def rank_score(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The logit s of each pair. [n]"""
        return self.net(torch.tensor(users), torch.tensor(items)).double().numpy()

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """User table [n_users + 1, dim + 1] and item table [n_items + 1, dim + 1]."""
        net, train = self.net, self.data.train
        return (
            _table(net.user_factors, net.user_bias, train.user),
            _table(net.item_factors, net.item_bias, train.item),
        )

    # --- fitting

    def _fit(self, seed: int) -> None:
        cfg, train, val = self.cfg, self.data.train, self.data.val
        if len(np.unique(val.click)) < 2:  # or no epoch would beat the start, and the model would be the floor
            raise DataError(f"mf: the epoch is chosen by val AUC, but all {len(val.click)} val rows are of one class")
        optimizer = torch.optim.Adam(self.net.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay)
        columns = [torch.tensor(x) for x in (train.user, train.item, train.click, train.rating)]
        best, best_epoch, best_state = -np.inf, 0, self._state()
        bar = tqdm(range(1, cfg.epochs + 1), desc="training mf", unit="epoch", mininterval=1.0)
        epoch = 0
        for epoch in bar:
            order = torch.from_numpy(named_generator(seed, f"mf epoch {epoch}").permutation(len(train.user)))
            for rows in order.split(cfg.batch_size):
                optimizer.zero_grad(set_to_none=True)
                self._loss(*(column[rows] for column in columns)).backward()
                optimizer.step()
            value = auc(val.click, self.rank_score(val.user, val.item))
            bar.set_postfix(val_auc=f"{value:.4f}", refresh=False)
            if value > best + 1e-5:
                best, best_epoch, best_state = value, epoch, self._state()
            elif epoch - best_epoch >= cfg.patience_epochs:
                break
        bar.close()
        self.net.load_state_dict(best_state)
        self.card = {
            "checkpoint_rule": "highest ctr AUC on val",
            "val_auc": round(float(best), 5),
            "epoch": best_epoch,
            "epochs_run": epoch,
        }

    def _loss(self, users: Tensor, items: Tensor, clicks: Tensor, ratings: Tensor) -> Tensor:
        net = self.net
        score = net(users, items)
        loss = F.binary_cross_entropy_with_logits(score, clicks.float())
        if self.data.train.has_ratings:
            loss = loss + 0.5 * F.mse_loss(net.offset + net.slope * score, ratings.float())
        squares = net.user_factors[users].square().sum(1) + net.item_factors[items].square().sum(1)
        moved = (net.user_bias[users] - net.user_start[users]).square() + (
            net.item_bias[items] - net.item_start[items]
        ).square()
        return loss + self.cfg.embedding_l2 * (squares + moved).mean()

    def _state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.net.state_dict().items()}


class _Factors(nn.Module):
    """Parameters of the model; row 0 of each table is padding, and ids that train never met are as empty."""

    user_start: Tensor
    item_start: Tensor
    user_bias: nn.Parameter
    item_bias: nn.Parameter

    def __init__(self, data: CFData, dim: int, floor: BiasModel, seed: int) -> None:
        super().__init__()
        draw = named_generator(seed, "mf start")

        def factors(n: int, seen: np.ndarray) -> nn.Parameter:
            start = draw.normal(scale=0.05, size=(n + 1, dim))
            start[np.setdiff1d(np.arange(n + 1), seen)] = 0.0  # else cold ids would be scored by noise
            return nn.Parameter(torch.tensor(start, dtype=torch.float32))

        self.user_factors = factors(data.n_users, data.train.user)
        self.item_factors = factors(data.n_items, data.train.item)
        for kind, means in (("user", floor.user_mean), ("item", floor.item_mean)):
            start = torch.tensor(logits(means) - logits(floor.mean), dtype=torch.float32)
            self.register_buffer(f"{kind}_start", start)
            self.register_parameter(f"{kind}_bias", nn.Parameter(start.clone()))
        self.mu = nn.Parameter(torch.tensor(float(logits(floor.mean))))
        self.offset = nn.Parameter(torch.tensor(floor.rating_mean if floor.rated else 0.0))
        self.slope = nn.Parameter(torch.tensor(1.0))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Logit s of each pair. [n]"""
        interaction = (self.user_factors[users] * self.item_factors[items]).sum(dim=1)
        return self.mu + self.user_bias[users] + self.item_bias[items] + interaction


def _table(factors: Tensor, bias: Tensor, seen: np.ndarray) -> np.ndarray:
    """[n + 1, dim + 1]; ids that train never met are zero."""
    table = np.zeros((factors.shape[0], factors.shape[1] + 1), dtype=np.float32)
    rows = np.unique(seen)
    table[rows] = torch.cat([factors, bias[:, None]], dim=1).detach().numpy()[rows]
    return table
