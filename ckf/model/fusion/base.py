"""The interface of every fusion (`Fusion`), and what those that map CF vectors share (`VectorFusion`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ckf.cf.vectors.tables import VectorTables, trained_rows
from ckf.config.schema import SlotKind
from ckf.core.rng import generator_for
from ckf.prompts.batch import SlotBatch

_SAMPLED_PAIRS = 20_000  # user-item pairs drawn to measure mean and spread of the pair features


class Fusion(nn.Module, ABC):
    """CF vectors and histories in, slot embeddings out.

    ``cf_dim`` is d, the width of a CF vector (0 where none is read); ``llm_dim`` is D, the backbone's;
    a slot takes ``tokens_per_slot`` positions. ``slots`` are the kinds of slots that the fusion fills.
    """

    def __init__(
        self, cf_dim: int, llm_dim: int, tokens_per_slot: int, slots: Sequence[SlotKind] = ("user", "item")
    ) -> None:
        super().__init__()
        self.cf_dim, self.llm_dim, self.tokens_per_slot, self.slots = cf_dim, llm_dim, tokens_per_slot, tuple(slots)

    @abstractmethod
    def forward(self, slots: SlotBatch) -> Tensor:
        """Embeddings [S, D] of a batch's slot tokens, in the order of ``slots.rows``: kind by kind, as ``slots.kinds``.

        `Recommender` checks their number.
        """

    def check_kinds(self, slots: SlotBatch) -> None:
        """Check that the fusion fills every kind of slot in a batch.

        Raises:
            ValueError: the prompts hold a slot of another kind.
        """
        for kind in slots.kinds:
            if kind not in self.slots:
                filled = ", ".join(f"<{name}>" for name in self.slots)
                raise ValueError(f"{type(self).__name__} fills {filled}, and the prompts hold <{kind}>")

    def fit_normalization(self, tables: VectorTables) -> None:
        """Measure what the fusion needs of the tables before training; nothing by default."""

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of each part."""
        counts: dict[str, int] = {}
        for name, parameter in self.named_parameters():
            first, second = name.split(".")[:2] if "." in name else (name, "")
            part = f"{second} map" if first == "maps" else first
            counts[part] = counts.get(part, 0) + parameter.numel()
        return counts


class VectorFusion(Fusion):
    """A map for each kind of slot in use: ``user``, ``item`` and ``pair``.

    Vectors are standardised per dimension with mean and spread over the trained rows, so that the map starts
    at a known scale for every CF model. A cold id (a row of zeros) stays zero, which then is the average user
    or item. A pair has ``2 d + 1`` features: the product and the difference of the two vectors and the CF
    model's own logit, standardised over random pairs. Maps are linear, or have one hidden layer of
    ``map_hidden``. With ``match_embedding_norm`` a slot starts with ``embedding_norm``, the norm of a word embedding.

    ``item_projection="personal"`` multiplies item vectors by the row's personal matrix (`personal_matrices`), or,
    where the fusion has none, scales them by the user's vector: ``v + v * u``, elementwise.
    ``pair_bias``: the last dimension of both tables is a bias, not a factor.
    Parameters of a linear map: ``(in + 1) k D`` for k tokens a slot, in = d or 2 d + 1.
    """

    user_mean: Tensor
    user_std: Tensor
    item_mean: Tensor
    item_std: Tensor
    pair_mean: Tensor
    pair_std: Tensor

    def __init__(
        self,
        cf_dim: int,
        llm_dim: int,
        *,
        embedding_norm: float,
        slots: Sequence[SlotKind] = ("user", "item"),
        tokens_per_slot: int = 1,
        dropout: float = 0.0,
        match_embedding_norm: bool = True,
        item_projection: str = "shared",
        pair_bias: bool = False,
        map_hidden: int | None = None,
    ) -> None:
        super().__init__(cf_dim, llm_dim, tokens_per_slot, slots)
        self.item_projection, self.pair_bias = item_projection, pair_bias
        self.dropout = nn.Dropout(dropout)
        widths = {"user": cf_dim, "item": cf_dim, "pair": 2 * cf_dim + 1}
        for kind, width in widths.items():
            self.register_buffer(f"{kind}_mean", torch.zeros(width))
            self.register_buffer(f"{kind}_std", torch.ones(width))
        norm = embedding_norm if match_embedding_norm else None
        self.maps = nn.ModuleDict(
            {kind: make_map(widths[kind], llm_dim, tokens_per_slot, map_hidden, norm) for kind in self.slots}
        )

    def fit_normalization(self, tables: VectorTables) -> None:
        """Measure mean and spread of the trained rows of both tables, and of the features of random pairs of them."""
        trained = [trained_rows(table) for table in (tables.users, tables.items)]
        if min(map(len, trained)) < 2:
            return
        draw = generator_for(0, "pairs whose scale is measured")
        users, items = (rows[torch.from_numpy(draw.integers(0, len(rows), _SAMPLED_PAIRS))] for rows in trained)
        for kind, rows in zip(("user", "item", "pair"), (*trained, self._pair_features(users, items)), strict=True):
            getattr(self, f"{kind}_mean").copy_(rows.mean(dim=0))
            getattr(self, f"{kind}_std").copy_(rows.std(dim=0).clamp_min(1e-6))

    def standardise(self, vectors: Tensor, kind: str) -> Tensor:
        """[..., d] -> [..., d] with unit spread per dimension; cold rows stay zero."""
        known = (vectors != 0).any(dim=-1, keepdim=True)
        return (vectors - getattr(self, f"{kind}_mean")) / getattr(self, f"{kind}_std") * known

    def pair_vectors(self, users: Tensor, items: Tensor) -> Tensor:
        """Standardised features [P, 2 d + 1] of pairs, from raw vectors [P, d] each; cold sides count as zero."""
        return (self._pair_features(users, items) - self.pair_mean) / self.pair_std

    def _pair_features(self, users: Tensor, items: Tensor) -> Tensor:
        product = users * items
        logit = product.sum(dim=1)
        if self.pair_bias:
            logit = logit - product[:, -1] + users[:, -1] + items[:, -1]
        return torch.cat([product, users - items, logit[:, None]], dim=1)

    def personal_matrices(self, users: Tensor, history: Tensor, mask: Tensor) -> Tensor | None:
        """Personal matrices [B, d, d] from standardised users [B, d] and history [B, H, d]; None: one map for all."""
        return None

    def forward(self, slots: SlotBatch) -> Tensor:
        """Embeddings [S, D] in the order of ``slots.kinds``.

        Raises:
            ValueError: the prompts hold a kind of slot that has no map.
        """
        self.check_kinds(slots)
        users, history = self.standardise(slots.users, "user"), self.standardise(slots.history, "item")
        matrices = self.personal_matrices(users, history, slots.history_mask)
        parts = []
        for kind in slots.kinds:
            if kind == "user":
                vectors = users if matrices is None else torch.einsum("bd,bde->be", users, matrices)
                parts.append(self.maps["user"](vectors)[slots.user_rows])
            elif kind == "item":
                parts.append(self.maps["item"](self._item_vectors(slots, users, matrices)))
            else:
                pairs = self.pair_vectors(slots.users[slots.pair_rows], slots.pair_items)
                parts.append(self.maps["pair"](pairs))
        return self.dropout(torch.cat(parts)).view(-1, self.llm_dim)

    def _item_vectors(self, slots: SlotBatch, users: Tensor, matrices: Tensor | None) -> Tensor:
        """Vectors [N, d] of the item slots, personal where that is asked for."""
        items = self.standardise(slots.items, "item")
        if self.item_projection != "personal":
            return items
        if matrices is None:
            return items + items * users[slots.item_rows]
        return torch.einsum("nd,nde->ne", items, matrices[slots.item_rows])


def make_map(
    in_dim: int, llm_dim: int, tokens: int, hidden: int | None = None, norm: float | None = None
) -> nn.Sequential:
    """Map [n, in] -> [n, tokens * D], linear or with one hidden ReLU layer.

    With ``norm`` its output for standardised input starts with that norm a token, and its bias is zero.
    """
    last = nn.Linear(hidden or in_dim, tokens * llm_dim)
    net = nn.Sequential(nn.Linear(in_dim, hidden), nn.ReLU(), last) if hidden else nn.Sequential(last)
    if norm is not None:
        nn.init.normal_(last.weight)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            start = net(torch.randn(512, in_dim)).view(-1, llm_dim).norm(dim=-1).mean()
            last.weight.mul_(norm / start)
    return net
