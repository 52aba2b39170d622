"""Fit a CF model and write its artifact: vectors, predictions for every example, and what it was trained on."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from ckf.artifacts import plain, write_json
from ckf.cf.bias import BiasModel
from ckf.cf.mf import MFModel
from ckf.cf.model import CFModel
from ckf.cf.table import CFData, Interactions
from ckf.config.schema import BiasConfig, CFConfig, MFConfig


def build_cf(cfg: CFConfig, dataset: Path, examples: Path, seed: int, out: Path) -> None:
    """Fit the configured model on the training split and write its artifact to ``out``."""
    started = time.perf_counter()
    data = CFData.load(dataset)
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
    """Fit the model of a config."""
    match cfg:
        case BiasConfig(pseudo_counts=pseudo_counts):
            return BiasModel(data, pseudo_counts)
        case MFConfig():
            return MFModel(data, cfg, seed)
    raise TypeError(f"no CF model is built from {type(cfg).__name__}; add a case in ckf/cf/fit.py")


def predict_examples(model: CFModel, examples: Path) -> pd.DataFrame:
    """Score every example of every split: one row (example_id, task, item, score), for topk one a candidate."""
    table = pd.read_parquet(examples / "examples.parquet", columns=["example_id", "task", "user", "item", "candidates"])
    parts = []
    for task, rows in table.groupby("task", sort=True):
        if task == "topk":
            rows = rows.assign(item=rows["candidates"]).explode("item")
        users, items = rows["user"].to_numpy(np.int64), rows["item"].to_numpy(np.int64)
        match task:
            case "ctr":
                scores = model.click_probability(users, items)
            case "topk":
                scores = model.rank_score(users, items)
            case _:
                scores = model.rating(users, items)
        parts.append(pd.DataFrame({"example_id": rows["example_id"], "task": task, "item": items, "score": scores}))
    return pd.concat(parts, ignore_index=True)


def _trained_on(train: Interactions) -> dict[str, object]:
    """Number of the training rows and a hash of their (user, item) pairs, to prove what was seen."""
    pairs = np.sort(train.user.astype(np.int64) << 32 | train.item)
    return {"split": "train", "rows": len(pairs), "pairs_sha256": hashlib.sha256(pairs.tobytes()).hexdigest()}
