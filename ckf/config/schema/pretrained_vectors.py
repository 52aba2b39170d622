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
    """Tables from files, one of users and one of items (or one file for both, with keys).

    ``ids``: ``raw`` aligns rows by raw id, from ``user_ids``/``item_ids`` (a file of ids in row order) or
    from the table itself; ``position``: row i belongs to id i of the dataset (row 0 is padding);
    ``raw_position``: row i belongs to the raw id i. ``missing``: what to do when an id of the training
    split has no row. ``scores``: predictions of the tables alone, by dot product. ``trained_on``: a file
    of the interactions they were trained on; without it their results are stamped.
    """

    users: str = MISSING
    items: str = MISSING
    user_key: str | None = None
    item_key: str | None = None
    ids: str = "raw"
    user_ids: str | None = None
    item_ids: str | None = None
    id_column: str = "id"
    dim: int | None = None
    missing: str = "refuse"
    scores: str = "none"
    trained_on: str | None = None
    cold: str = "zero"
    cold_l2: float = 10.0

    @property
    def has_vectors(self) -> bool:
        """They are all it has."""
        return True

    @property
    def predicts(self) -> bool:
        """Only when asked for: a dot product need not be how the tables were trained."""
        return self.scores != "none"

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
