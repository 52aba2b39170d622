"""Whether several CF models together rank better than the best of them, by val figures alone.

    python experiments/cf/stacking.py DATASET

DATASET is a dataset artifact; of it, `CFData` holds train and val alone. For every set of models: the mean of
their click logits, and (``stacked``) a logistic regression on the logits, each val row scored by the weights of the
other folds. Mean over seeds; to selection/<dataset>-stacking.csv beside this file, best first.
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict

from ckf.cf.data import CFData
from ckf.cf.fit import fit_model
from ckf.config.compose import compose
from ckf.metrics import auc, uauc

MODELS = ("features", "itemknn", "mf_plus", "lightgcn_plus", "din_plus", "sasrec_plus")
SEEDS = (0, 1)


def main(dataset: Path) -> None:
    """Fit every model once a seed, then try all sets of them."""
    torch.set_num_threads(1)
    configs = {name: compose(["method=cf_only", f"cf={name}"])[0].cf for name in MODELS}
    data = CFData.load(dataset, max(cfg.reads_history for cfg in configs.values()))
    val = data.val
    scores = {
        (name, seed): logit(fit_model(cfg, data, seed).click_probability(val.batch))
        for seed in SEEDS
        for name, cfg in configs.items()
    }
    rows = []
    for size in range(1, len(MODELS) + 1):
        for names in itertools.combinations(MODELS, size):
            figures = {"mean": np.zeros(2), "stacked": np.zeros(2)}
            for seed in SEEDS:
                columns = np.stack([scores[name, seed] for name in names], axis=1)
                weighed = cross_val_predict(
                    LogisticRegression(C=0.01), columns, val.click, cv=KFold(5, shuffle=True, random_state=seed),
                    method="decision_function",
                )  # fmt: skip
                for how, score in (("mean", columns.mean(axis=1)), ("stacked", weighed)):
                    figures[how] += (auc(val.click, score), uauc(val.click, score, val.user)[0])
            for how, total in figures.items():
                found = total / len(SEEDS)
                rows.append([" ".join(names), how, *(f"{value:.5f}" for value in found)])
    rows.sort(key=lambda row: -float(row[2]) - float(row[3]))
    out = Path(__file__).parent / "selection" / f"{dataset.name.rsplit('-', 1)[0]}-stacking.csv"
    with out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["models", "how", "val_auc", "val_uauc"], *rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
