"""Written explanation: from user, item and rating to the review, as text. Trained as the others, generated in
evaluation, and measured against the user's own review."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ckf.metrics.text_overlap import bleu, distinct, mean_length, rouge
from ckf.tasks.base import Example, Interactions, Metric, Sample, Task, Vocabulary, Wording, count_rows


def _texts(sample: Sample) -> list[str]:
    return [str(text) for text in sample.rows["text"].fillna("")]


def _references(sample: Sample) -> list[str]:
    return [str(text) for text in sample.column("reference")]


def _rouge(sample: Sample) -> dict[str, float]:
    return rouge(_texts(sample), _references(sample))


def _bleu(order: int, *, headline: bool = False) -> Metric:
    return Metric(
        f"bleu{order}", lambda s: bleu(_texts(s), _references(s), order), tagged=True, title=f"BLEU-{order}",
        headline=headline,
    )  # fmt: skip


def _rouge_metric(name: str, title: str) -> Metric:
    return Metric(name, lambda s: s.memo(_rouge)[name], tagged=True, title=title)


def _distinct(order: int) -> Metric:
    return Metric(f"distinct{order}", lambda s: distinct(_texts(s), order), tagged=True, title=f"distinct-{order}")


class Review(Task):
    """What would the user write about the item, at this rating?"""

    needs = frozenset({"rating", "review"})
    written = True
    cf_output = "rating"
    placeholders = ("candidate", "rating")
    wording = Wording(
        "The user rated {candidate} {rating}.\nReview:",
        "The user rated {candidate}<user><item> {rating}.\nReview:",
    )
    metrics = (
        _bleu(1),
        _bleu(4, headline=True),
        _rouge_metric("rouge1", "ROUGE-1"),
        _rouge_metric("rouge2", "ROUGE-2"),
        _rouge_metric("rougeL", "ROUGE-L"),
        _distinct(1),
        _distinct(2),
        Metric("length", lambda s: mean_length(_texts(s)), tagged=True, title="words", decimals=1),
        count_rows("rows"),
    )

    def label(self, rows: Interactions) -> np.ndarray:
        """The rating that the review goes with."""
        return rows.rating

    def labels(self, example: Example, words: Vocabulary) -> list[str]:
        """The user's own review, which training teaches."""
        return [example.review or ""]

    def true_label(self, example: Example, words: Vocabulary) -> str:
        """The user's own review."""
        return example.review or ""

    def label_values(self, labels: Sequence[str]) -> np.ndarray:
        """Text means no number."""
        raise NotImplementedError("reviews are written, not scored")
