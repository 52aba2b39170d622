"""User and item vectors that were made elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import MISSING

from ckf.config.schema.cf import COLD, CFConfig
from ckf.config.schema.validators import at_least, one_of
from ckf.core.errors import Problem

FORMATS = (".npy", ".npz", ".safetensors", ".parquet", ".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
ID_FORMATS = (".txt", ".npy", ".json", ".parquet")


@dataclass
class PretrainedConfig(CFConfig):
    """Tables from files, one of users and one of items (or one file for both, with keys)."""

    users: str = MISSING
    """File of the user vectors (.npy, .npz, .safetensors, .parquet, .pt and the like)."""
    items: str = MISSING
    """File of the item vectors."""
    user_key: str | None = None
    """Key of the user vectors in a file of several tables."""
    item_key: str | None = None
    """Key of the item vectors."""
    ids: str = "raw"
    """What rows belong to: ``raw`` (raw ids, from ``user_ids`` and ``item_ids`` or the table itself), ``position`` (row
    i is the dataset's id i, row 0 is padding) or ``raw_position`` (row i is raw id i)."""
    user_ids: str | None = None
    """File of the users' raw ids in row order, for ``ids=raw``."""
    item_ids: str | None = None
    """File of the items' raw ids in row order."""
    id_column: str = "id"
    """Column of the raw ids in a Parquet table."""
    dim: int | None = None
    """Width that the vectors must have. null takes that of the file."""
    missing: str = "refuse"
    """When an id of the training split has no row: ``refuse``, or treat it as ``cold``."""
    scores: str = "none"
    """Predictions of the tables alone: ``none``, the ``dot`` product (an order, for AUC and rankings), or its
    ``sigmoid`` (a probability, for log-loss and ECE too)."""
    trained_on: str | None = None
    """File of the interactions that the tables were trained on. Without it, results are marked as possibly leaking."""
    cold: str = "zero"
    """Vector of an id without a row: ``zero``, ``mean`` or ``content``, as for the other CF models."""
    cold_l2: float = 10.0
    """Strength of the ridge regression of ``cold=content``."""

    @property
    def has_vectors(self) -> bool:
        """They are all it has."""
        return True

    @property
    def outputs(self) -> frozenset[str]:
        """Only when asked for: a dot product need not be how the tables were trained. It is on no scale of ratings."""
        return frozenset() if self.scores == "none" else frozenset({"click", "rank"})

    def problems(self) -> Iterator[Problem]:
        """File formats, names, and id files that would not be read."""
        yield from super().problems()
        yield from one_of("ids", self.ids, ("raw", "position", "raw_position"))
        yield from one_of("missing", self.missing, ("refuse", "cold"))
        yield from one_of("scores", self.scores, ("none", "dot", "sigmoid"))
        yield from one_of("cold", self.cold, COLD)
        yield from at_least("dim", self.dim, 1)
        yield from at_least("cold_l2", self.cold_l2, 0)
        for name, allowed in (
            ("users", FORMATS),
            ("items", FORMATS),
            ("user_ids", ID_FORMATS),
            ("item_ids", ID_FORMATS),
        ):
            path = getattr(self, name)
            if path is not None and not path.lower().endswith(allowed):
                yield Problem(name, f"'{path}' is none of the known formats ({', '.join(allowed)})")
        for name in ("user_ids", "item_ids"):
            if getattr(self, name) is not None and self.ids != "raw":
                yield Problem(name, f"is not read with ids={self.ids}; leave it out, or use ids=raw")
