"""Seconds of each training epoch of RecBole 1.2.1, in its own environment: theirs.py DIR MODEL EPOCHS BATCH DIM."""

from __future__ import annotations

import functools
import json
import sys
import time

import torch

torch.load = functools.partial(torch.load, weights_only=False)

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

NAMES = {"mf": "BPR", "lightgcn": "LightGCN", "sasrec": "SASRec"}
HISTORY = 10


def main(folder: str, name: str, epochs: int, batch: int, dim: int) -> list[float]:
    """Train with RecBole's own loop, its evaluation left out."""
    settings = {
        "data_path": folder, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "embedding_size": dim,
        "hidden_size": dim, "inner_size": dim, "n_layers": 2, "n_heads": 2, "hidden_dropout_prob": 0.2,
        "attn_dropout_prob": 0.2, "MAX_ITEM_LIST_LENGTH": HISTORY, "train_batch_size": batch, "epochs": epochs,
        "use_gpu": False, "device": "cpu", "show_progress": False, "state": "ERROR", "reproducibility": True,
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "order": "TO", "group_by": "none", "mode": "full"},
        "loss_type": "BPR", "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "dynamic": False},
    }  # fmt: skip
    if name == "sasrec":
        settings["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    config = Config(model=NAMES[name], dataset="made", config_dict=settings)
    init_seed(0, True)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = get_model(config["model"])(config, train.dataset)
    torch.autograd.set_detect_anomaly(False)  # one of RecBole's modules turns it on for all of them when imported
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    found = []
    for epoch in range(epochs):
        start = time.perf_counter()
        trainer._train_epoch(train, epoch, show_progress=False)
        found.append(time.perf_counter() - start)
    return [len(train.dataset), *found]


if __name__ == "__main__":
    sys.argv, arguments = sys.argv[:1], sys.argv[1:]  # RecBole reads the command line too
    print(json.dumps(main(arguments[0], arguments[1], *map(int, arguments[2:]))))
