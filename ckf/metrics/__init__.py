"""Metrics as pure functions, and their uncertainty. `ckf.tasks` lists those of each task."""

from ckf.metrics.classification import (
    Reliability,
    are_probabilities,
    auc,
    ece,
    reliability,
    uauc,
    user_aucs,
    user_rankings,
)
from ckf.metrics.ranking import (
    coverage,
    hit_rate,
    mean_average_precision,
    mrr,
    ndcg,
    popularity_bias,
    protocol_tag,
    target_ranks,
    top_items,
)
from ckf.metrics.ratings import mae, rmse
from ckf.metrics.resampling import RankedAUC, Ratio, resample, user_weights
from ckf.metrics.slices import quartiles
from ckf.metrics.text_overlap import bleu, distinct, mean_length, rouge
from ckf.metrics.uncertainty import (
    LEAST_USERS,
    Comparison,
    compare,
    holm,
    interval,
    intervals,
    signed_rank,
)
from ckf.metrics.unusable_answers import with_worst_clicks, with_worst_ratings

__all__ = [
    "LEAST_USERS",
    "Comparison",
    "RankedAUC",
    "Ratio",
    "Reliability",
    "are_probabilities",
    "auc",
    "bleu",
    "compare",
    "coverage",
    "distinct",
    "ece",
    "hit_rate",
    "holm",
    "interval",
    "intervals",
    "mae",
    "mean_average_precision",
    "mean_length",
    "mrr",
    "ndcg",
    "popularity_bias",
    "protocol_tag",
    "quartiles",
    "reliability",
    "resample",
    "rmse",
    "rouge",
    "signed_rank",
    "target_ranks",
    "top_items",
    "uauc",
    "user_aucs",
    "user_rankings",
    "user_weights",
    "with_worst_clicks",
    "with_worst_ratings",
]
