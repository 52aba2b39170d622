"""Classifier on counted features of user, item and history (``cf=features``): a strong baseline without embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ckf.cf.data import CFBatch, CFData, Interactions
from ckf.cf.features.cooccurrence import PAIR_COUNTS, CoOccurrence
from ckf.cf.features.counts import ITEM_COUNTS, USER_COUNTS, Counts, out_of_fold
from ckf.cf.features.titles import Content
from ckf.cf.popularity_prior import Ranking
from ckf.cf.val_choice import refuse_one_class, val_choice
from ckf.config.schema import FeaturesConfig

HISTORY = (
    "history length",
    "history quality",
    "history popularity",
    "years from the history",
    "words shared, mean",
    "words shared, most",
)
NAMES = (*ITEM_COUNTS, *USER_COUNTS, *PAIR_COUNTS, *HISTORY)


class FeaturesModel:
    """Logistic regression, boosted trees, or the mean of their logits, on 19 features of a pair (`NAMES`).

    Features of a training row are computed from the rows of the other folds (`ckf.cf.features.counts`). The
    number of trees is the one with the highest val AUC. Ratings: ridge regression or trees on the same features.
    """

    def __init__(self, data: CFData, cfg: FeaturesConfig, seed: int) -> None:
        refuse_one_class("features", data)
        self.data, self.cfg = data, cfg
        self.history_items = cfg.history_items
        self.content = Content(data.titles, data.n_items)
        self.describe = _Describer(data.train, data, self.content, cfg.shrinkage)
        described = out_of_fold_features(data, self.content, cfg, seed)
        self.metadata: dict[str, Any] = {
            "checkpoint_rule": "none: one closed problem on train",
            "features": list(NAMES),
        }
        self.linear: Pipeline | None = None
        self.trees: HistGradientBoostingClassifier | None = None
        if cfg.model != "trees":
            regression = LogisticRegression(C=cfg.regularisation, max_iter=2000)
            self.linear = make_pipeline(StandardScaler(), regression).fit(described, data.train.click)
            weights = regression.coef_[0].round(4).tolist()
            self.metadata["weights"] = dict(zip(NAMES, weights, strict=True))
        if cfg.model != "logistic":
            self.trees = self._fit_trees(described, seed)
        self.stars = self._fit_stars(described, seed) if data.train.has_ratings else None
        self.ranking = Ranking.fit(data, self._logit, seed)
        self.metadata["ranking"] = self.ranking.metadata

    # --- predictions

    def click_probability(self, batch: CFBatch) -> np.ndarray:
        """P(click) of each pair. [n]"""
        return expit(self._logit(batch))

    def rating(self, batch: CFBatch) -> np.ndarray:
        """Expected rating of each pair; NaN where train has no ratings. [n]"""
        if self.stars is None:
            return np.full(len(batch), np.nan)
        low, high = self.data.train.rating.min(), self.data.train.rating.max()
        return np.clip(self.stars.predict(self.describe(self._known(batch))), low, high)

    def rank_score(self, batch: CFBatch) -> np.ndarray:
        """Weighted sum of popularity and click logit, weights fitted on val. [n]"""
        return self.ranking.score(self._known(batch).item, self._logit(batch))

    def vectors(self) -> None:
        """None: this model has no vectors."""
        return

    def user_vectors(self, batch: CFBatch) -> None:
        """None: this model has no vectors."""
        return

    def _known(self, batch: CFBatch) -> CFBatch:
        return batch.within(self.data.n_users, self.data.n_items)

    def _logit(self, batch: CFBatch) -> np.ndarray:
        features = self.describe(self._known(batch))
        models = [model for model in (self.linear, self.trees) if model is not None]
        return np.mean([model.decision_function(features) for model in models], axis=0)

    # --- fitting

    def _fit_trees(self, described: np.ndarray, seed: int) -> HistGradientBoostingClassifier:
        cfg, train = self.cfg, self.data.train
        choice = val_choice("features: the number of trees", self.data)
        settings = {
            "learning_rate": cfg.learning_rate,
            "max_leaf_nodes": cfg.leaves,
            "min_samples_leaf": min(100, max(1, len(train.user) // 20)),
            "l2_regularization": 10.0,
            "early_stopping": False,
            "random_state": seed,
        }
        long = HistGradientBoostingClassifier(max_iter=cfg.iterations, **settings).fit(described, train.click)
        best, best_count, count, decides = -np.inf, 1, 0, ""
        for count, scores in enumerate(long.staged_decision_function(self.describe(choice.batch)), start=1):
            decides, value = next(iter(choice.figures(scores.ravel()).items()))
            if value > best + 1e-5:
                best, best_count = value, count
            elif count - best_count >= cfg.patience_iterations:
                break
        self.metadata.update(
            {"checkpoint_rule": f"number of trees: {choice.rule}", decides: round(best, 5), "trees": best_count}
        )
        return HistGradientBoostingClassifier(max_iter=best_count, **settings).fit(described, train.click)

    def _fit_stars(self, described: np.ndarray, seed: int) -> Pipeline | HistGradientBoostingRegressor:
        if self.trees is None:
            return make_pipeline(StandardScaler(), Ridge(alpha=10.0)).fit(described, self.data.train.rating)
        settings = {**self.trees.get_params(), "loss": "squared_error", "random_state": seed}
        known = HistGradientBoostingRegressor().get_params()
        model = HistGradientBoostingRegressor(**{name: settings.get(name, value) for name, value in known.items()})
        return model.fit(described, self.data.train.rating)


class _Describer:
    """Compute the features of pairs from given rows."""

    def __init__(self, rows: Interactions, data: CFData, content: Content, shrinkage: float) -> None:
        self.content = content
        self.counts = Counts.of(rows, data, content, shrinkage)
        self.together = CoOccurrence.of(rows, data, self.counts)
        self.words = content.unit_words()

    def __call__(self, batch: CFBatch) -> np.ndarray:
        """Features of each pair in the order of `NAMES`. [n, 19]"""
        history, item = batch.history, batch.item
        there = history > 0
        length = there.sum(axis=1)
        several = np.maximum(1, length)
        quality, popularity = ((self.counts.items[history, k] * there).sum(axis=1) / several for k in (1, 2))
        year = self.content.scaled_years
        apart = np.where(length > 0, np.abs(year[item] - (year[history] * there).sum(axis=1) / several), 0.0)
        shared = self._shared_words(history, item)
        own = (length, quality, popularity, apart, shared.sum(axis=1) / several, shared.max(axis=1, initial=0.0))
        return np.concatenate(
            [
                self.counts.of_pairs(batch.user, item),
                self.together.of_histories(history, item),
                np.stack(own, axis=1),
            ],
            axis=1,
        )

    def _shared_words(self, history: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Cosine of the titles' tf-idf words. [n, H]"""
        if not history.size:
            return np.zeros(history.shape)
        wide = np.repeat(item, history.shape[1])
        product = self.words[history.ravel()].multiply(self.words[wide]).sum(axis=1)
        return np.asarray(product).reshape(history.shape)


def out_of_fold_features(data: CFData, content: Content, cfg: FeaturesConfig, seed: int) -> np.ndarray:
    """Features of the training rows, each computed from the rows of the other folds alone. [n_train, 19]"""
    described = np.zeros((len(data.train.user), len(NAMES)))
    for mine, others in out_of_fold(data.train, cfg.folds, seed):
        describe = _Describer(others, data, content, cfg.shrinkage)
        described[mine] = describe(data.train.batch.rows(mine))
    return described
