"""Scores of the whole catalogue: by the CF model's vectors, by popularity, or by the slots' match."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ckf.cf.vectors.tables import VectorTables
from ckf.core.artifact_store import read_json
from ckf.core.errors import ArtifactError


@dataclass(frozen=True)
class Positives:
    """Who liked what, as sorted keys ``user * (n_items + 1) + item``, and how often each item was liked in train."""

    keys: np.ndarray
    counts: np.ndarray

    @classmethod
    def load(cls, dataset: Path, n_items: int) -> Positives:
        """Read the likes of every split; ``counts`` [n_items + 1] are of the training split alone."""
        rows = pd.read_parquet(dataset / "interactions.parquet", columns=["user", "item", "click", "split"])
        rows = rows[rows["click"] > 0]
        keys = rows["user"].to_numpy(np.int64) * (n_items + 1) + rows["item"].to_numpy(np.int64)
        train = rows.loc[rows["split"] == "train", "item"].to_numpy(np.int64)
        return cls(np.unique(keys), np.bincount(train, minlength=n_items + 1))

    def of(self, user: int) -> np.ndarray:
        """Items that a user likes, in any split."""
        width = len(self.counts)
        first, stop = np.searchsorted(self.keys, [user * width, (user + 1) * width])
        return self.keys[first:stop] - user * width


@dataclass(frozen=True)
class CFRetrieval:
    """``popularity * log(1 + likes) + liking * (p_u q_v + b_u + b_v)``: the CF model's ranking from its vectors.

    For mf, lightgcn and sasrec the product is the model's own logit but for a constant; din's depends on the
    candidate, so its vectors are an approximation. A user without a vector leaves popularity and item bias.
    """

    tables: VectorTables
    biased: bool
    popularity: float
    liking: float
    likes: np.ndarray

    @classmethod
    def load(cls, cf: Path, likes: np.ndarray, *, biased: bool) -> CFRetrieval:
        """Open an embeddings artifact; ``likes`` [n_items + 1] counts training positives, ``biased`` as `pair_bias`.

        Raises:
            ArtifactError: the CF model has no vectors.
        """
        if not (cf / "items.safetensors").is_file():
            raise ArtifactError(
                f"{cf}: this CF model keeps no vectors to rank the catalogue by; use cf=mf_plus or another that has, "
                "or evaluate.retrieval=slots"
            )
        weights = read_json(cf / "manifest.json").get("ranking", {"popularity": 0.0, "liking": 1.0})
        return cls(VectorTables.load(cf), biased, float(weights["popularity"]), float(weights["liking"]), likes)

    def scores(self, users: torch.Tensor) -> np.ndarray:
        """Score of every item for user vectors [n, d]. [n, n_items + 1]"""
        items = self.tables.items[torch.arange(len(self.tables.items))].float()
        if self.biased:
            product = users[:, :-1].float() @ items[:, :-1].T + users[:, -1:].float() + items[:, -1]
        else:
            product = users.float() @ items.T
        return self.popularity * np.log1p(self.likes)[: len(items)] + self.liking * product.double().numpy()
