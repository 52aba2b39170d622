"""What chooses an epoch on val: the AUC of likes against dislikes or, for implicit feedback, the rank of the likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ckf.cf.data import CFBatch, CFData, Interactions
from ckf.core.errors import DataError
from ckf.metrics import auc, uauc


@dataclass(frozen=True)
class ValChoice:
    """Pairs to score after an epoch, and the figures of their scores; the first figure decides, more is better."""

    rule: str
    batch: CFBatch
    figures: Callable[[np.ndarray], dict[str, float]]


def val_choice(what: str, data: CFData) -> ValChoice:
    """The choice that the data allow; ``what`` is chosen, for messages.

    Raises:
        DataError: val holds one class alone, and is no implicit feedback.
    """
    if data.lists is not None:
        rule = f"highest NDCG@10 of val likes among {data.lists.width} items drawn by {data.negatives}"
        return ValChoice(rule, data.lists.batch, data.lists.figures)
    val = data.val
    if len(np.unique(val.click)) < 2:  # no epoch could be better than the start
        raise DataError(f"{what} is chosen by val AUC, but {_one_class(val, 'val', data)}")

    def figures(score: np.ndarray) -> dict[str, float]:
        by_user, _ = uauc(val.click, score, val.user)
        return {"val_auc": round(auc(val.click, score), 6), "val_uauc": round(by_user, 6)}

    return ValChoice("highest ctr AUC on val", val.batch, figures)


def refuse_one_class(name: str, data: CFData) -> None:
    """Stop a classifier whose training rows are of one class.

    Raises:
        DataError: says which, and why.
    """
    if len(np.unique(data.train.click)) < 2:
        raise DataError(f"{name}: a classifier needs likes and dislikes, but {_one_class(data.train, 'train', data)}")


def _one_class(rows: Interactions, split: str, data: CFData) -> str:
    if not len(rows.click):
        return f"{split} holds no row; use another split"
    kind = "likes" if rows.click[0] > 0 else "dislikes"
    reason = data.like_fault or f"use another split, or one whose {split} part is larger"
    return f"all {len(rows.click)} {split} rows are {kind}: {reason}"
