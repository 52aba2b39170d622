"""Rating prediction: how will the user rate the candidate? The score is the mean over the scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ckf.core.errors import DataError
from ckf.metrics.ratings import mae, right_answers, rmse
from ckf.tasks.base import Example, Interactions, Metric, ReleasedRow, Sample, Task, Vocabulary, count_rows
from ckf.tasks.base import released_number as number


def _right(sample: Sample) -> np.ndarray:
    return right_answers(sample.labels, sample.column("answer")).astype(float)


def rating_text(rating: float) -> str:
    """A rating as prompts and answers write it: 4.0 is "4", 3.5 is "3.5"."""
    return f"{rating:g}"


class OnRatingScale(Task):
    """A task whose answer is a rating of the dataset's scale."""

    needs = frozenset({"rating"})
    on_rating_scale = True
    cf_output = "rating"
    metrics = (
        Metric("rmse", lambda s: rmse(s.labels, s.scores), direction="lower", headline=True, main=True, title="RMSE",
               statistic=lambda s: s.mean_of_rows((s.labels - s.scores) ** 2, root=True)),
        Metric("mae", lambda s: mae(s.labels, s.scores), direction="lower", main=True, title="MAE",
               statistic=lambda s: s.mean_of_rows(np.abs(s.labels - s.scores))),
        Metric("accuracy", lambda s: float(_right(s).mean()), title="accuracy",
               statistic=lambda s: s.mean_of_rows(_right(s))),
        count_rows("rows"),
    )  # fmt: skip

    def label(self, rows: Interactions) -> np.ndarray:
        """The rating."""
        return rows.rating

    def labels(self, example: Example, words: Vocabulary) -> list[str]:
        """The rating scale, lowest first."""
        return list(words.ratings)

    def true_label(self, example: Example, words: Vocabulary) -> str:
        """The rating as text.

        Raises:
            DataError: a rating that is not on the dataset's scale.
        """
        label = rating_text(example.label)
        if label not in words.ratings:
            raise DataError(f"{example.example_id}: rating {label} is not on the scale {', '.join(words.ratings)}")
        return label

    def label_values(self, labels: Sequence[str]) -> np.ndarray:
        """The ratings as numbers."""
        return np.asarray(labels, dtype=float)

    def fixed_labels(self, words: Vocabulary) -> list[str]:
        """The rating scale."""
        return list(words.ratings)


class Rating(OnRatingScale):
    """How will the user rate the candidate?"""

    listed_by_datasets = True
    history = "all"
    history_ratings = True
    item_score = "rating"
    released_name = "rating"

    def released_prompt(self, row: ReleasedRow) -> tuple[str, Any]:
        """A question answered by a number; the history shows its ratings."""
        rated = [
            f"{row.titles[item]} ({number(stars)})"
            for item, stars in zip(row.history, row.history_ratings, strict=True)
        ]
        text = (
            f"{row.user} rated these items, oldest first: {'; '.join(rated) or 'none yet'}. "
            f"How will the user rate {row.titled(row.item)}? Answer with a number."
        )
        return text, number(row.label)
