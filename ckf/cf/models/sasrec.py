"""SASRec (Kang and McAuley 2018): a user vector from causal self-attention over the history, plus a user bias."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ckf.cf.features.spectral_init import like_vectors
from ckf.cf.features.titles import Content
from ckf.cf.models.embedding_model import EmbeddingModel, Net
from ckf.cf.nn.item_encoder import ItemEncoder, init_embedding
from ckf.cf.nn.kernels import Dropout, attend, attend_once, scores_and_l2
from ckf.config.schema import SASRecConfig


class SASRecModel(EmbeddingModel):
    """The interaction is ``h q_v + d_u + d_v``, with h the last state of causal self-attention over the history."""

    family = "sasrec"
    cfg: SASRecConfig

    def build(self, content: Content | None, draw: np.random.Generator) -> Net:
        """The encoder and the items it reads, which are the items it scores."""
        cfg, data = self.cfg, self.data
        states = CausalEncoder(cfg.dim, cfg.history_items, cfg.blocks, cfg.heads, cfg.dropout)
        if cfg.bias_terms:
            nn.init.constant_(states.norm.weight, 0.1)  # so that the first scores are about those of the bias terms
        items = ItemEncoder(content, data.train.item, data.n_items, cfg.dim, draw)
        if cfg.item_init == "likes":
            items.begin_at(like_vectors(data, cfg.dim, draw))
        biases = [init_embedding(n, 1, seen, draw, scale=0.0) for n, seen in self.sizes()]
        return SASRecNet(items, states, *biases)


class SASRecNet(Net):
    """States of the history, scored against the items."""

    def __init__(
        self, items: ItemEncoder, states: CausalEncoder, user_bias: nn.Embedding, item_bias: nn.Embedding
    ) -> None:
        super().__init__()
        self.items, self.states = items, states
        self.user_bias, self.item_bias = user_bias, item_bias

    def forward(self, users: Tensor, items: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Interaction logits and squares of the vectors of users [n] with items [n, k]. [n, k], [n, k]"""
        state = self._state(history)
        return scores_and_l2(state, self.items(items), self.user_bias(users), self.item_bias(items))

    def user_side(self, users: Tensor, history: Tensor) -> Tensor:
        """[h, d_u]. [n, d + 1]"""
        return torch.cat([self._state(history), self.user_bias(users)], dim=1)

    def item_side(self, items: Tensor) -> Tensor:
        """[q_v, d_v]. [n, d + 1]"""
        return torch.cat([self.items(items), self.item_bias(items)], dim=1)

    def _state(self, history: Tensor) -> Tensor:
        """The state after each history [n, H]. [n, d]"""
        return self.states.last(self.items(F.pad(history, (1, 0))), history > 0)


class CausalEncoder(nn.Module):
    """Blocks of self-attention and feed-forward, each state a function of the items up to its own.

    A learned start token precedes the history, so that an empty history has a state. Positions count back from
    the newest item, so a short history is a suffix of a long one. Pre-norm. Padding is masked for all positions
    but its own; its item vectors must be zero.

    Shapes: items [n, H + 1, d], zeros at the start token, and ``there`` [n, H], true where an item is.
    """

    def __init__(self, dim: int, history_items: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.start = nn.Parameter(torch.zeros(dim))
        self.positions = nn.Parameter(torch.randn(history_items + 1, dim) * 0.02)
        self.blocks = nn.ModuleList(_Block(dim, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, items: Tensor, there: Tensor) -> Tensor:
        """States after the start and after each item that is ``there``. [n, H + 1, d]"""
        x, mask = self._inputs(items, there)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)

    def last(self, items: Tensor, there: Tensor) -> Tensor:
        """The state after the whole history: `forward` at the last place, without the work for the others. [n, d]"""
        x, mask = self._inputs(items, there)
        for block in self.blocks[:-1]:
            x = block(x, mask)
        return self.norm(self.blocks[-1](x, mask[:, -1:], last=True))[:, 0]

    def _inputs(self, items: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [n, H + 1, d] and what is added to who sees whom: 0, or -inf where nothing is seen. [n, T, T]"""
        length = items.shape[1]
        x = items + (self.positions[-length:] + F.pad(self.start[None], (0, 0, 0, length - 1)))
        seen = F.pad(there, (1, 0), value=True)  # the start is always there
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        return self.dropout(x), torch.zeros((), device=x.device).where(causal & seen[:, None, :], float("-inf"))


class _Block(nn.Module):
    """Pre-norm self-attention and feed-forward, each with a residual."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, Dropout(dropout)
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.forward_net = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), Dropout(dropout), nn.Linear(dim, dim))

    def forward(self, inputs: Tensor, mask: Tensor, *, last: bool = False) -> Tensor:
        """States of all places of ``inputs`` [n, T, d], or of the ``last`` one; ``mask`` [n, Q, T]. [n, Q, d]"""
        normed = self.before(inputs)
        if last:
            inputs = inputs[:, -1:]
            asked = self.query(self.before(inputs))
            read = attend_once(asked, normed, self.key_value, mask, self.heads, self.dropout)
        else:
            read = attend(self.query(normed), self.key_value(normed), mask, self.heads, self.dropout)
        x = self.out(read) + inputs  # in place it would be on a view, which autograd copies three times
        return self.forward_net(self.between(x)) + x
