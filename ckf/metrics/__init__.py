"""Metrics as pure functions, their uncertainty, and all metrics of one source's predictions. Imports nothing of ckf."""

from ckf.metrics.answers import with_worst_clicks, with_worst_scores
from ckf.metrics.classification import (
    Reliability,
    auc,
    ece,
    log_loss,
    reliability,
    uauc,
    user_aucs,
    user_map,
    user_ndcg,
    user_rankings,
)
from ckf.metrics.ranking import (
    coverage,
    hit_rate,
    mean_average_precision,
    mrr,
    ndcg,
    popularity_bias,
    target_ranks,
    top_items,
)
from ckf.metrics.ratings import mae, rmse
from ckf.metrics.resampling import RankedAUC, Ratio, resample, user_weights
from ckf.metrics.slices import quartiles
from ckf.metrics.tasks import compute_metrics, headline, protocol_tag, task_statistics
from ckf.metrics.uncertainty import (
    Comparison,
    auc_interval,
    bootstrap_ci,
    compare,
    holm,
    interval,
    intervals,
    paired_bootstrap_auc,
    signed_rank,
)

__all__ = [
    "Comparison",
    "RankedAUC",
    "Ratio",
    "Reliability",
    "auc",
    "auc_interval",
    "bootstrap_ci",
    "compare",
    "compute_metrics",
    "coverage",
    "ece",
    "headline",
    "hit_rate",
    "holm",
    "interval",
    "intervals",
    "log_loss",
    "mae",
    "mean_average_precision",
    "mrr",
    "ndcg",
    "paired_bootstrap_auc",
    "popularity_bias",
    "protocol_tag",
    "quartiles",
    "reliability",
    "resample",
    "rmse",
    "signed_rank",
    "target_ranks",
    "task_statistics",
    "top_items",
    "uauc",
    "user_aucs",
    "user_map",
    "user_ndcg",
    "user_rankings",
    "user_weights",
    "with_worst_clicks",
    "with_worst_scores",
]
