"""Fit a CF model and write its artifact: vectors, predictions for every example, and what it was trained on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ckf.cf.data import CFBatch, CFData
from ckf.cf.drawn_negatives import PER_LIKE, POPULARITY, UNIFORM, with_drawn_negatives
from ckf.cf.features.padded_histories import padded_histories
from ckf.cf.models.base import ORDER_ALONE, CFModel
from ckf.cf.models.bias import BiasModel
from ckf.cf.models.din import DINModel
from ckf.cf.models.embedding_model import EmbeddingModel
from ckf.cf.models.feature_classifier import FeaturesModel
from ckf.cf.models.itemknn import ItemKNNModel
from ckf.cf.models.lightgcn import LightGCNModel
from ckf.cf.models.mf import MFModel
from ckf.cf.models.popularity import PopularityModel
from ckf.cf.models.sasrec import SASRecModel
from ckf.cf.trainer import OnEpoch
from ckf.cf.vectors.artifact import filled_tables, write_epochs, write_histories, write_tables, write_training_rows
from ckf.cf.vectors.external import PretrainedModel, write_given_rows
from ckf.cf.vectors.out_of_fold import FoldModel, fit_folds, write_fold_vectors
from ckf.cf.vectors.per_example_users import write_example_users
from ckf.config import schema
from ckf.core.artifact_store import to_jsonable, write_json
from ckf.tasks import BUILT_IN, Task


def build_cf(
    cfg: schema.CFConfig,
    dataset: Path,
    examples: Path,
    seed: int,
    out: Path,
    on_epoch: OnEpoch | None = None,
    out_of_fold: int = 0,
    tasks: Mapping[str, Task] = BUILT_IN,
) -> None:
    """Fit the configured model on the training split and write its artifact to ``out``.

    ``on_epoch`` is called with the figures of each epoch as it ends, by models that have epochs. With ``out_of_fold``
    the training examples get vectors of models that were fitted without their fold (`ckf.cf.vectors.out_of_fold`).
    """
    started = time.perf_counter()
    data = CFData.load(dataset, cfg.reads_history)
    model = (
        PretrainedModel(cfg, data, dataset)
        if isinstance(cfg, schema.PretrainedConfig)
        else fit_model(cfg, data, seed, on_epoch)
    )
    predict_examples(model, examples, tasks).to_parquet(out / "predictions.parquet", index=False)
    metadata = {"model": cfg.name, "settings": to_jsonable(cfg), "seed": seed, **model.metadata}
    if gives_order_alone(model):
        metadata[ORDER_ALONE] = True
    if isinstance(cfg, schema.PretrainedConfig):
        metadata["trained_on"] = write_given_rows(out, cfg, dataset)
    else:
        metadata["trained_on"] = write_training_rows(out, data.train, dataset)
        if data.implicit:
            drawn_by, per_like = _drawn(cfg)
            metadata["negatives"] = {"drawn_by": drawn_by, "per_like": per_like}
    fitted = getattr(model, "fitted", None)  # models that are not trained by steps have none
    write_epochs(out, fitted.history if fitted else [])
    tables = model.vectors()
    if tables is not None and isinstance(cfg, (schema.EmbeddingConfig, schema.PretrainedConfig)):
        metadata |= write_tables(out, tables, data, cfg.cold, cfg.cold_l2, _nulls(cfg, model, tables))
        metadata["histories"] = write_histories(out, data.train, data.n_users)
        folds = (
            _fold_models(cfg, model, data, out_of_fold, seed)
            if out_of_fold and isinstance(cfg, schema.EmbeddingConfig)
            else []
        )
        if folds:
            metadata["fold_vectors"] = write_fold_vectors(out, folds, examples, seed)
        if model.history_items:
            metadata["example_users"] = write_example_users(out, model, examples, folds, seed)
    write_json(out / "manifest.json", {**metadata, "seconds": round(time.perf_counter() - started, 2)})


def _nulls(
    cfg: schema.EmbeddingConfig | schema.PretrainedConfig, model: CFModel, tables: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The learned vectors of cold users and items, where those are asked for."""
    if isinstance(model, EmbeddingModel) and cfg.cold == "learned":
        return model.nulls(tables[1], cfg.cold_l2)
    return None, None


def _fold_models(cfg: schema.EmbeddingConfig, model: CFModel, data: CFData, folds: int, seed: int) -> list[FoldModel]:
    """The models fitted without each fold of the training rows."""

    def fill(one: CFModel, part: CFData) -> tuple[np.ndarray, np.ndarray]:
        tables = one.vectors()
        assert tables is not None, "every embedding model has vectors"
        return filled_tables(tables, part, cfg.cold, cfg.cold_l2, _nulls(cfg, one, tables))

    def fit(part: CFData) -> CFModel:
        return fit_model(cfg, part, seed)

    return fit_folds(fit, fill, data, fill(model, data), folds, seed)


def fit_model(cfg: schema.CFConfig, data: CFData, seed: int, on_epoch: OnEpoch | None = None) -> CFModel:
    """Fit the model of a config; ``on_epoch`` as of `build_cf`.

    Raises:
        DataError: data on which it cannot be fitted, or whose val split cannot choose an epoch.
    """
    if data.implicit and data.negatives is None:
        data = with_drawn_negatives(data, seed, *_drawn(cfg))
    match cfg:
        case schema.BiasConfig(shrinkage=shrinkage):
            return BiasModel(data, shrinkage)
        case schema.PopularityConfig(shrinkage=shrinkage):
            return PopularityModel(data, shrinkage)
        case schema.ItemKNNConfig():
            return ItemKNNModel(data, cfg, seed)
        case schema.FeaturesConfig():
            return FeaturesModel(data, cfg, seed)
        case schema.MFConfig():
            return MFModel(data, cfg, seed, on_epoch)
        case schema.LightGCNConfig():
            return LightGCNModel(data, cfg, seed, on_epoch)
        case schema.SASRecConfig():
            return SASRecModel(data, cfg, seed, on_epoch)
        case schema.DINConfig():
            return DINModel(data, cfg, seed, on_epoch)
    raise TypeError(f"no CF model is built from {type(cfg).__name__}; add a case in ckf/cf/fit.py")


def gives_order_alone(model: CFModel) -> bool:
    """Whether a model orders items without saying how probable a click is (a dot product of given vectors)."""
    return isinstance(model, PretrainedModel) and model.scores == "dot"


def _drawn(cfg: schema.CFConfig) -> tuple[str, int]:
    """How the negatives of implicit feedback are drawn, and how many for each like."""
    if not isinstance(cfg, schema.EmbeddingConfig):
        return UNIFORM, 1
    return (POPULARITY if cfg.negatives == "popularity" else UNIFORM), PER_LIKE


def predict_examples(model: CFModel, examples: Path, tasks: Mapping[str, Task] = BUILT_IN) -> pd.DataFrame:
    """Score every example of every split: one row (example_id, task, item, score), for lists one a candidate.

    A model that gives no probability of a click but an order answers with that order (`gives_order_alone`).

    Histories are those of the examples: the items that the user liked earlier. A task that the model
    cannot do (every score is NaN) has no rows.
    """
    columns = ["example_id", "task", "user", "item", "candidates"]
    read = pq.read_table(examples / "examples.parquet", columns=[*columns, "history"])
    histories = padded_histories(read["history"], model.history_items)
    table = read.select(columns).to_pandas()
    parts = []
    for name, rows in table.groupby("task", sort=True):
        task = tasks[str(name)]
        if task.lists:
            rows = rows.assign(item=rows["candidates"]).explode("item")
        batch = CFBatch(rows["user"].to_numpy(np.int64), rows["item"].to_numpy(np.int64), histories[rows.index])
        match task.cf_output:
            case "click":
                scores = model.rank_score(batch) if gives_order_alone(model) else model.click_probability(batch)
            case "rank":
                scores = model.rank_score(batch)
            case "rating":
                scores = model.rating(batch)
            case None:
                scores = np.full(len(batch.item), np.nan)
        if np.isnan(scores).all():
            batch, rows, scores = batch.rows(slice(0)), rows[:0], scores[:0]
        parts.append(
            pd.DataFrame({"example_id": rows["example_id"], "task": name, "item": batch.item, "score": scores})
        )
    return pd.concat(parts, ignore_index=True)
