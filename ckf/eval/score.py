"""Scores of every possible answer from one forward pass a batch; nothing is generated, nothing dropped."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from tqdm import tqdm

from ckf.data.records import ExampleTable
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collator
from ckf.train.data import approximate_lengths


@torch.inference_mode()
def answer_log_probabilities(
    model: Recommender, table: ExampleTable, collator: Collator, *, slots: bool, batch_size: int, device: torch.device
) -> tuple[list[np.ndarray], int]:
    """Log-probability of each possible answer (terminator included) of each example, in the table's order.

    Examples of like length share a batch. Also returns how many prompts lost history to the length limit.
    """
    model.to(device).eval()
    out: list[np.ndarray] = [np.empty(0)] * len(table)
    order = np.argsort(approximate_lengths(table, collator), kind="stable")
    cut = 0
    bar = tqdm(total=len(table), desc=f"scoring {table.split}", unit="prompt", mininterval=1.0)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch, counts = collator.scoring([table[int(i)] for i in rows], slots=slots)
        batch = batch.to(device)
        totals = torch.zeros(sum(counts), dtype=torch.float64, device=device)
        totals.index_add_(0, batch.answer_branch, model(batch).double())
        for row, part in zip(rows, np.split(totals.cpu().numpy(), np.cumsum(counts)[:-1]), strict=True):
            out[row] = part
        cut += batch.history_cut
        bar.update(len(rows))
    bar.close()
    return out, cut


def predictions(
    table: ExampleTable, log_probabilities: list[np.ndarray], collator: Collator, source: str
) -> pd.DataFrame:
    """Turn answer log-probabilities into rows of the predictions file.

    ctr: the probability of Yes against No. rating and explain: the mean of the distribution over
    the scale's labels (``answer`` is its mode). topk: one row a candidate, the title's log-probability, or
    that of Yes where the wording asks the candidates one by one.
    """
    rows: list[dict[str, object]] = []
    for i in range(len(table)):
        example, scores = table[i], log_probabilities[i]
        base = {
            "source": source,
            "example_id": example.example_id,
            "task": example.task,
            "user": example.user,
            "warm_seen": bool(table.warm_seen[i]),
            "warm_3": bool(table.warm_3[i]),
        }
        if example.task == "topk":
            for place, (item, score) in enumerate(zip(example.candidates, scores, strict=True)):
                hit = float(place == example.position)
                title = collator.encoder.titles[item]
                rows.append(
                    {**base, "item": int(item), "label": hit, "score": float(score), "position": place, "answer": title}
                )
            continue
        probabilities = softmax(scores)
        labels = collator.encoder.labels(example)
        if example.task == "ctr":
            score = float(probabilities[labels.index("Yes")])
        else:
            score = float(probabilities @ np.asarray(labels, dtype=float))
        answer = labels[int(np.argmax(probabilities))]
        rows.append(
            {**base, "item": example.item, "label": example.label, "score": score, "position": -1, "answer": answer}
        )
    return pd.DataFrame(rows)


def cf_predictions(
    table: ExampleTable, scores: pd.DataFrame, titles: list[str], labels: list[str], source: str
) -> pd.DataFrame:
    """Rows of the predictions file from a CF artifact's own scores (``example_id``, ``item``, ``score``)."""
    wide = scores.set_index(["example_id", "item"])["score"].to_dict()
    scale = np.asarray(labels, dtype=float)
    rows: list[dict[str, object]] = []
    for i in range(len(table)):
        example = table[i]
        topk = example.task == "topk"
        for place, item in enumerate(example.candidates if topk else [example.item]):
            score = float(wide.get((example.example_id, int(item)), np.nan))
            if topk:
                answer = titles[item]
            elif example.task == "ctr":
                answer = "Yes" if score > 0.5 else "No"
            else:
                answer = labels[int(np.argmin(np.abs(scale - score)))]
            rows.append(
                {
                    "source": source,
                    "example_id": example.example_id,
                    "task": example.task,
                    "user": example.user,
                    "item": int(item),
                    "label": float(place == example.position) if topk else example.label,
                    "score": score,
                    "position": place if topk else -1,
                    "answer": answer,
                    "warm_seen": bool(table.warm_seen[i]),
                    "warm_3": bool(table.warm_3[i]),
                }
            )
    return pd.DataFrame(rows)
