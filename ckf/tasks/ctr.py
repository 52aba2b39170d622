"""Click prediction: will the user like the candidate? Yes or No; the score is the probability of Yes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ckf.metrics.classification import UserRankings, auc, ece, log_losses, user_aucs, user_rankings
from ckf.metrics.resampling import RankedAUC, Ratio, Statistic
from ckf.tasks.base import Example, Metric, ReleasedRow, Sample, Task, Vocabulary, count_rows

NO_YES = ("No", "Yes")


def aucs_of_users(sample: Sample) -> np.ndarray:
    """AUC of each user, in ascending order of user; NaN with one class. [users]"""
    return user_aucs(sample.labels, sample.scores, sample.users)


def rankings_of_users(sample: Sample) -> UserRankings:
    """Ranking figures of each user's own rows."""
    return user_rankings(sample.labels, sample.scores, sample.users)


def _losses(sample: Sample) -> Statistic | None:
    losses = log_losses(sample.labels, sample.probabilities)
    return None if np.isnan(losses).any() else sample.mean_of_rows(losses)


def _mean(by_user: np.ndarray) -> float:
    found = by_user[~np.isnan(by_user)]
    return float(found.mean()) if len(found) else float("nan")


def _found(by_user: np.ndarray) -> int:
    return int((~np.isnan(by_user)).sum())


BINARY_METRICS = (
    Metric("auc", lambda s: auc(s.labels, s.scores), headline=True, main=True, title="AUC",
           statistic=lambda s: RankedAUC(s.labels, s.scores, s.user_codes)),
    Metric("uauc", lambda s: _mean(s.memo(aucs_of_users)), main=True, title="UAUC",
           statistic=lambda s: Ratio.of_users(s.memo(aucs_of_users))),
    Metric("logloss", lambda s: float(np.mean(log_losses(s.labels, s.probabilities))), direction="lower",
           title="log-loss", statistic=_losses),
    Metric("ece", lambda s: ece(s.labels, s.probabilities), direction="lower", title="ECE"),
    count_rows("rows"),
    Metric("uauc_users", lambda s: _found(s.memo(aucs_of_users)), main=True, title="users with both classes",
           decimals=0),
    Metric("ndcg_user", lambda s: _mean(s.memo(rankings_of_users).ndcg),
           statistic=lambda s: Ratio.of_users(s.memo(rankings_of_users).ndcg)),
    Metric("map_user", lambda s: _mean(s.memo(rankings_of_users).average_precision)),
    Metric("mrr_user", lambda s: _mean(s.memo(rankings_of_users).reciprocal_rank)),
    Metric("users_with_positive", lambda s: _found(s.memo(rankings_of_users).ndcg), decimals=0),
)  # fmt: skip
"""Metrics of any task whose score is the probability of a Yes."""


class Binary(Task):
    """A task with the answers No and Yes; labels are 0 and 1."""

    binary = True
    metrics = BINARY_METRICS

    def labels(self, example: Example, words: Vocabulary) -> list[str]:
        """No and Yes."""
        return list(NO_YES)

    def true_label(self, example: Example, words: Vocabulary) -> str:
        """Yes for a label above 0."""
        return NO_YES[example.label > 0]

    def fixed_labels(self, words: Vocabulary) -> list[str]:
        """No and Yes."""
        return list(NO_YES)


class Ctr(Binary):
    """Will the user like the candidate?"""

    likes_suffice = False
    listed_by_datasets = True
    random_targets_when_released = True
    cf_output = "click"
    item_score = "score"
    has_oracle = True
    released_name = "ctr"

    def item_scores(self, log_probabilities: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """The log-odds of Yes: probabilities close to 1 would tie. [n]"""
        found: np.ndarray = log_probabilities[:, 1] - log_probabilities[:, 0]
        return found

    def released_prompt(self, row: ReleasedRow) -> tuple[str, Any]:
        """A question answered by Yes or No."""
        text = (
            f"{row.user} liked these items, oldest first: {row.past}. "
            f'Will the user like {row.titled(row.item)}? Answer "Yes" or "No".'
        )
        return text, "Yes." if row.label else "No."
