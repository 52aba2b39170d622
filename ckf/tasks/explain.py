"""Explainable rating: from a review to the rating that goes with it."""

from __future__ import annotations

from typing import Any

from ckf.tasks.base import ReleasedRow
from ckf.tasks.base import released_number as number
from ckf.tasks.rating import OnRatingScale


class Explain(OnRatingScale):
    """Which rating goes with the review?"""

    needs = frozenset({"rating", "review"})
    listed_by_datasets = True
    placeholders = ("review", "candidate")
    required = "review"
    released_name = "exp"

    def released_history(self, row: ReleasedRow) -> list[int]:
        """The reviewed item, as in the released code."""
        return [row.item]

    def released_prompt(self, row: ReleasedRow) -> tuple[str, Any]:
        """A question answered by a number."""
        text = (
            f"{row.user} reviewed {row.titled(row.item)} with these words: {row.review} "
            "How does the user rate it? Answer with a number."
        )
        return text, number(row.label)
