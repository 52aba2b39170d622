"""Examples that were left out because too few items can be on their candidate lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ckf.data.interaction_keys import raw_ids


@dataclass
class LeftOut:
    """Counts of one task by split; of the first case: user and item (dataset ids), and how many items can be listed."""

    by_split: dict[str, int] = field(default_factory=dict)
    user: int = 0
    item: int = 0
    usable: int = 0

    def add(self, split: str, user: np.ndarray, item: np.ndarray, usable: np.ndarray) -> None:
        """Count the examples of these users and items."""
        if not self.by_split:
            self.user, self.item, self.usable = int(user[0]), int(item[0]), int(usable[0])
        self.by_split[split] = self.by_split.get(split, 0) + len(user)

    @property
    def total(self) -> int:
        """Number of examples left out."""
        return sum(self.by_split.values())

    def to_json(self, task: str, made: int, needed: str, dataset: Path) -> dict[str, Any]:
        """What the manifest keeps; ``made`` is the number of examples of the task that are there.

        ``needed``: how many items an example needs, and by which key.
        """
        user, item = raw_ids(dataset, "user")[self.user], raw_ids(dataset, "item")[self.item]
        splits = ", ".join(f"{split} {n:,}" for split, n in self.by_split.items())
        text = (
            f"{task}: {self.total:,} of {made + self.total:,} examples ({splits}) are left out, since fewer than "
            f"{needed} items can be on their list, e.g. {self.usable} for user '{user}' and item "
            f"'{item}': the others are the user's positives or share a title"
        )
        return {
            "examples": self.by_split,
            "of": made + self.total,
            "first": f"user '{user}', item '{item}'",
            "text": text,
        }
