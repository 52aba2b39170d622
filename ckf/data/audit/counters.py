"""Counting by kind over blocks of examples, and the first case of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa


@dataclass
class Count:
    """How many of how many, and the first one's name."""

    count: int = 0
    of: int = 0
    first: str | None = None


@dataclass
class Tally:
    """Counts by kind."""

    kinds: dict[str, Count] = field(default_factory=dict)

    def add(
        self, kind: str, hit: np.ndarray, names: pa.ChunkedArray | pa.Array, among: np.ndarray | None = None
    ) -> None:
        """Count the rows where ``hit``; ``among`` limits the count to some rows."""
        found = self.kinds.setdefault(kind, Count())
        if among is not None:
            hit = hit & among
        found.of += len(hit) if among is None else int(among.sum())
        n = int(hit.sum())
        if n and found.first is None:
            found.first = str(names[int(np.argmax(hit))].as_py())
        found.count += n

    def __getitem__(self, kind: str) -> Count:
        return self.kinds.get(kind, Count())
