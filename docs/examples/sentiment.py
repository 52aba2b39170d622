"""A task of one's own: is the user's opinion of an item bad, mixed or good?."""

import numpy as np

from ckf.tasks.base import Example, Interactions, Metric, Sample, Task, Vocabulary, Wording, count_rows

OPINIONS = ["bad", "mixed", "good"]


def _right(sample: Sample) -> np.ndarray:
    """1 for each row whose answer is its label, else 0."""
    return (sample.column("answer") == np.asarray(OPINIONS)[sample.labels.astype(int)]).astype(float)


class Sentiment(Task):
    """Labels 0, 1 and 2 from the stars (1-2, 3, 4-5); the score is the expected label."""

    needs = frozenset({"rating"})
    wording = Wording(
        text="The user liked: {history}.\nThe user's opinion of {candidate}:",
        slots="The user liked: {history}.\nThe user's opinion of {candidate}<user><item>:",
    )
    metrics = (
        Metric("accuracy", lambda s: float(_right(s).mean()), headline=True, main=True, title="accuracy",
               statistic=lambda s: s.mean_of_rows(_right(s))),
        Metric("distance", lambda s: float(np.abs(s.labels - s.scores).mean()), direction="lower", title="distance"),
        count_rows("rows"),
    )  # fmt: skip

    def label(self, rows: Interactions) -> np.ndarray:
        """0, 1 or 2 for each interaction."""
        return np.digitize(rows.rating, [2.5, 3.5]).astype(np.float32)

    def labels(self, example: Example, words: Vocabulary) -> list[str]:
        """The three answers, in the order of their labels."""
        return OPINIONS

    def fixed_labels(self, words: Vocabulary) -> list[str]:
        """They are the same for every example."""
        return OPINIONS

    def worst_scores(self, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The end of the scale that is farther from the label replaces an unusable answer."""
        return np.where(np.isnan(scores), np.where(labels > 1, 0.0, 2.0), scores)
