"""CPU seconds of each training epoch of a ckf model on the made interactions: ours.py DATA MODEL EPOCHS BATCH DIM."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ckf.cf.data import CFData, Interactions
from ckf.cf.features.padded_histories import earlier_likes
from ckf.cf.models.lightgcn import LightGCNModel
from ckf.cf.models.mf import MFModel
from ckf.cf.models.sasrec import SASRecModel
from ckf.config.schema import LightGCNConfig, MFConfig, SASRecConfig

HISTORY = 10


def interactions(path: Path, history_items: int) -> CFData:
    """The made rows as train; val is a handful of them, so that what is timed is training."""
    rows = np.load(path)
    user, item, when = rows["user"].astype(np.int64), rows["item"].astype(np.int64), rows["timestamp"]
    click = np.ones(len(user))  # RecBole takes every row as a positive
    history = (
        earlier_likes(user, item, click, when, history_items) if history_items else np.zeros((len(user), 0), np.int32)
    )
    train = Interactions(user, item, click, np.full(len(user), np.nan), when, history)
    few = train.rows(np.arange(40))
    val = Interactions(few.user, few.item, np.arange(40) % 2.0, few.rating, few.timestamp, few.history)
    return CFData(train, val, int(user.max()), int(item.max()))


def model_class(name: str, epochs: int, batch: int, dim: int, **extra: Any) -> tuple[Any, Any]:
    """Class and config of a model as it is compared: same width, batch and epochs, no content, nothing stops early."""
    same: dict[str, Any] = {
        "dim": dim, "epochs": epochs, "patience_epochs": epochs + 1, "batch_size": batch, "title_features": False,
        "loss": "bpr", **extra,
    }  # fmt: skip
    match name:
        case "mf":
            return MFModel, MFConfig("mf", **same)
        case "lightgcn":
            return LightGCNModel, LightGCNConfig("lightgcn", layers=2, **same)
        case "sasrec":
            return SASRecModel, SASRecConfig("sasrec", blocks=2, heads=2, dropout=0.2, history_items=HISTORY, **same)
    raise SystemExit(f"{name}: one of mf, lightgcn, sasrec")


def epoch_seconds(data: CFData, kind: Any, cfg: Any, clock: Callable[[], float] = time.process_time) -> list[float]:
    """Time from the start of each epoch to its evaluation, which is not counted."""
    starts: list[float] = []
    ends: list[float] = []

    class Timed(kind):
        def batches(self) -> Any:
            draw = super().batches()

            def noted(generator: np.random.Generator) -> Any:
                starts.append(clock())
                return draw(generator)

            return noted

        def _val_figures(self) -> dict[str, float]:
            ends.append(clock())  # the first one is before the first epoch
            return super()._val_figures()

    Timed(data, cfg, 0)
    return (np.asarray(ends[1:]) - np.asarray(starts)).tolist()


if __name__ == "__main__":
    path, name, epochs, batch, dim = sys.argv[1:]
    kind, cfg = model_class(name, int(epochs), int(batch), int(dim))
    print(json.dumps(epoch_seconds(interactions(Path(path), HISTORY if name == "sasrec" else 0), kind, cfg)))
