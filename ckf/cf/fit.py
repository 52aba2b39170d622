"""Fit a CF model and write its artifact: vectors, predictions for every example, and what it was trained on."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from ckf.artifacts import plain, write_json
from ckf.cf.bias import BiasModel
from ckf.cf.din import DINModel
from ckf.cf.features import FeaturesModel
from ckf.cf.itemknn import ItemKNNModel
from ckf.cf.lightgcn import LightGCNModel
from ckf.cf.mf import MFModel
from ckf.cf.model import CFModel
from ckf.cf.popularity import PopularityModel
from ckf.cf.sasrec import SASRecModel
from ckf.cf.sequences import padded_histories
from ckf.cf.table import CFBatch, CFData, Interactions
from ckf.config.schema import (
    BiasConfig,
    CFConfig,
    DINConfig,
    FeaturesConfig,
    ItemKNNConfig,
    LightGCNConfig,
    MFConfig,
    PopularityConfig,
    SASRecConfig,
)


def build_cf(cfg: CFConfig, dataset: Path, examples: Path, seed: int, out: Path) -> None:
    """Fit the configured model on the training split and write its artifact to ``out``."""
    started = time.perf_counter()
    data = CFData.load(dataset, cfg.reads_history)
    model = fit_model(cfg, data, seed)
    predict_examples(model, examples).to_parquet(out / "predictions.parquet", index=False)
    tables = model.vectors()
    card = {
        "model": cfg.name,
        "settings": plain(cfg),
        "seed": seed,
        **model.card,
        "trained_on": _trained_on(data.train),
    }
    if tables is not None:
        for kind, table in zip(("users", "items"), tables, strict=True):
            save_file({"vectors": torch.from_numpy(table)}, out / f"{kind}.safetensors")
            norms = np.linalg.norm(table[1:], axis=1)
            card[kind] = {
                "rows": len(table) - 1,
                "trained": int((norms > 0).sum()),
                "dim": table.shape[1],
                "mean_norm": round(float(norms[norms > 0].mean()), 4) if (norms > 0).any() else 0.0,
            }
    write_json(out / "manifest.json", {**card, "seconds": round(time.perf_counter() - started, 2)})


def fit_model(cfg: CFConfig, data: CFData, seed: int) -> CFModel:
    """Fit the model of a config.

    Raises:
        DataError: data on which it cannot be fitted, or whose val split cannot choose an epoch.
    """
    match cfg:
        case BiasConfig(pseudo_counts=pseudo_counts):
            return BiasModel(data, pseudo_counts)
        case PopularityConfig(pseudo_counts=pseudo_counts):
            return PopularityModel(data, pseudo_counts)
        case ItemKNNConfig():
            return ItemKNNModel(data, cfg, seed)
        case FeaturesConfig():
            return FeaturesModel(data, cfg, seed)
        case MFConfig():
            return MFModel(data, cfg, seed)
        case LightGCNConfig():
            return LightGCNModel(data, cfg, seed)
        case SASRecConfig():
            return SASRecModel(data, cfg, seed)
        case DINConfig():
            return DINModel(data, cfg, seed)
    raise TypeError(f"no CF model is built from {type(cfg).__name__}; add a case in ckf/cf/fit.py")


def predict_examples(model: CFModel, examples: Path) -> pd.DataFrame:
    """Score every example of every split: one row (example_id, task, item, score), for topk one a candidate.

    Histories are those of the examples, what the user had liked before that moment.
    """
    columns = ["example_id", "task", "user", "item", "candidates"]
    read = pq.read_table(examples / "examples.parquet", columns=[*columns, "history"])
    histories = padded_histories(read["history"], model.history_items)
    table = read.select(columns).to_pandas()
    parts = []
    for task, rows in table.groupby("task", sort=True):
        if task == "topk":
            rows = rows.assign(item=rows["candidates"]).explode("item")
        batch = CFBatch(rows["user"].to_numpy(np.int64), rows["item"].to_numpy(np.int64), histories[rows.index])
        match task:
            case "ctr":
                scores = model.click_probability(batch)
            case "topk":
                scores = model.rank_score(batch)
            case _:
                scores = model.rating(batch)
        parts.append(
            pd.DataFrame({"example_id": rows["example_id"], "task": task, "item": batch.item, "score": scores})
        )
    return pd.concat(parts, ignore_index=True)


def _trained_on(train: Interactions) -> dict[str, object]:
    """Number of the training rows and a hash of their (user, item) pairs, to prove what was seen."""
    pairs = np.sort(train.user.astype(np.int64) << 32 | train.item)
    return {"split": "train", "rows": len(pairs), "pairs_sha256": hashlib.sha256(pairs.tobytes()).hexdigest()}
