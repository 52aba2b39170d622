"""Choose the settings of a CF model by its val figures: a random search that is never handed a test label.

    python experiments/cf/select_settings.py DATASET MODEL [MINUTES [KEY=VALUE,VALUE ...]]

DATASET is a dataset artifact (`ckf prepare` prints it); of it, `CFData` holds train and val alone. Every
trial is the mean over its ``seeds`` (the first trials had two). Marked is the smallest model (dim, then blocks)
whose val AUC + val UAUC is within 0.002 of the best, about what two seeds differ by.
The log of all trials goes to selection/<dataset>-<model>.csv beside this file; running again adds trials, with
KEY=VALUE,VALUE those of a part of the space.
"""

from __future__ import annotations

import csv
import functools
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ckf.cf.data import CFData
from ckf.cf.fit import fit_model
from ckf.config.registry import SCHEMAS
from ckf.core.rng import generator_for
from ckf.metrics import auc, uauc

SEEDS = (0, 1, 2)
FIGURES = ["val_auc", "val_uauc", "epochs", "seeds", "seconds", "chosen"]
_COMMON: dict[str, list[Any]] = {
    "dim": [8, 16, 32, 64],
    "learning_rate": [0.001, 0.003, 0.01],
    "embedding_l2": [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1],
    "title_features": [True, False],
}
_SEQUENCE = {**_COMMON, "dropout": [0.1, 0.3, 0.5], "weight_decay": [0.01, 0.1]}
SPACES: dict[str, dict[str, list[Any]]] = {
    "features": {
        "model": ["logistic", "trees", "both"],
        "shrinkage": [2.0, 5.0, 10.0],
        "regularisation": [0.001, 0.01, 0.1],
        "leaves": [4, 8],
    },
    "itemknn": {"neighbours": [20, 100, 500], "shrinkage": [0.0, 10.0, 50.0]},
    "mf_plus": {**_COMMON, "loss": ["bce", "bpr", "mse"]},
    "lightgcn_plus": {**_COMMON, "layers": [1, 2, 3]},
    "sasrec_plus": {
        **_COMMON,
        "dim": [8, 16, 32],
        "embedding_l2": [0.001, 0.003, 0.01, 0.03],
        "dropout": [0.1, 0.3, 0.5],
        "weight_decay": [0.01, 0.1, 1.0],
        "blocks": [1],
        "heads": [1, 2],
        "history_items": [5, 10, 25],
        "loss": ["bce", "bpr"],
        "shrinkage": [2.0, 5.0, 20.0],
        "item_init": ["random", "likes"],
    },
    "din_plus": {**_SEQUENCE, "attention_hidden": [8, 16], "hidden": [8, 16]},
}


def main(dataset: Path, name: str, minutes: float, narrowed: dict[str, list[Any]]) -> None:
    """Search for the given time, then write the log with the choice marked."""
    torch.set_num_threads(1)
    space, kind = SPACES[name], SCHEMAS["cf"][name]
    out = Path(__file__).parent / "selection" / f"{dataset.name.rsplit('-', 1)[0]}-{name}.csv"
    trials = list(csv.DictReader(out.open())) if out.is_file() else []
    known = {tuple(trial[key] for key in space) for trial in trials}
    every = list(itertools.product(*(space | narrowed).values()))
    order = generator_for(0, f"search {name.removesuffix('_plus')}").permutation(len(every))
    data = functools.cache(functools.partial(CFData.load, dataset))
    started = time.perf_counter()
    for number in order:
        values = dict(zip(space, every[number], strict=True))
        if tuple(str(value) for value in values.values()) in known:
            continue
        if time.perf_counter() - started > 60 * minutes:
            break
        cfg = kind(name=name, **values)
        trials.append({**values, **trial_figures(cfg, data(cfg.reads_history))})
        write(out, trials)
    write(out, trials)


def trial_figures(cfg: Any, data: CFData) -> dict[str, Any]:
    """Val figures of one setting, the mean over seeds."""
    started, found, epochs = time.perf_counter(), [], []
    for seed in SEEDS:
        model = fit_model(cfg, data, seed)
        score = model.click_probability(data.val.batch)
        found.append((auc(data.val.click, score), uauc(data.val.click, score, data.val.user)[0]))
        epochs.append(model.metadata.get("epoch", 0))
    value = np.mean(found, axis=0)
    seconds = round(time.perf_counter() - started, 1)
    return {
        "val_auc": f"{value[0]:.5f}",
        "val_uauc": f"{value[1]:.5f}",
        "epochs": max(epochs),
        "seeds": len(SEEDS),
        "seconds": seconds,
    }


def write(out: Path, trials: list[dict[str, Any]]) -> None:
    """Write all trials, the best one marked."""
    sums = [float(trial["val_auc"]) + float(trial["val_uauc"]) for trial in trials]
    close = [(trial, value) for trial, value in zip(trials, sums, strict=True) if value >= max(sums) - 0.002]
    best, _ = min(close, key=lambda pair: (int(pair[0].get("dim", 0)), int(pair[0].get("blocks", 0)), -pair[1]))
    with out.open("w", newline="") as file:
        names = [key for key in trials[0] if key not in FIGURES] + FIGURES
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**trial, "chosen": "yes" if trial is best else ""} for trial in trials)


if __name__ == "__main__":
    given = [argument.split("=") for argument in sys.argv[4:]]
    main(
        Path(sys.argv[1]),
        sys.argv[2],
        float(sys.argv[3]) if len(sys.argv) > 3 else 4.0,
        {key: [yaml.safe_load(value) for value in values.split(",")] for key, values in given},
    )
