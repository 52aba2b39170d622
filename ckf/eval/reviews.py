"""Explanations as text: reviews written for user, item and rating, and two baselines that read none of these."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ckf.config.schema import EvaluateConfig
from ckf.core.rng import hash_ids, hashed_uniform
from ckf.data.example_table import Example, ExampleTable
from ckf.eval.generate import Choice, generate, greedy, sampled
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collators
from ckf.tasks import Task

FREQUENT, RANDOM = "frequent", "random"
"""Baselines: the item's most frequent sentence of training reviews; a training review drawn for each example."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def decoding_tag(cfg: EvaluateConfig) -> str:
    """How a metric of text names its protocol: ``[greedy]``, or ``[sampled-s0-t1]`` with seed and temperature."""
    return "[greedy]" if cfg.decoding == "greedy" else f"[sampled-s{cfg.generation_seed}-t{cfg.temperature:g}]"


def written_reviews(
    model: Recommender, collators: Collators, examples: Sequence[Example], cfg: EvaluateConfig,
    *, slots: bool, device: torch.device,
) -> list[str]:  # fmt: skip
    """A review for each example, in their order; empty where nothing but the end was written."""
    model.to(device).eval()
    texts = [""] * len(examples)
    order = np.argsort([len(collators.encoder.titles[x.item]) for x in examples], kind="stable")
    bar = tqdm(total=len(examples), desc="writing reviews", unit="review", mininterval=1.0)
    for start in range(0, len(order), cfg.batch_size):
        rows = order[start : start + cfg.batch_size]
        part = [examples[int(row)] for row in rows]
        for row, ids in zip(rows, generate(model, collators, part, _choice(part, cfg), slots=slots,
                                        tokens=cfg.max_new_tokens, device=device), strict=True):  # fmt: skip
            ended = [token for token in ids if token != collators.encoder.eos]
            texts[row] = collators.encoder.tokenizer.decode(ended, skip_special_tokens=True).strip()
        bar.update(len(rows))
    bar.close()
    return texts


def _choice(examples: list[Example], cfg: EvaluateConfig) -> Choice:
    if cfg.decoding == "greedy":
        return greedy
    return sampled([x.example_id for x in examples], cfg.generation_seed, cfg.max_new_tokens, cfg.temperature)


def baseline_reviews(table: ExampleTable, train: ExampleTable) -> dict[str, list[str]]:
    """The baselines without a model: the item's most frequent training sentence, and a training review at random.

    An item without training reviews gets the most frequent sentence of all. Ties go to the first by alphabet.
    """
    by_item: defaultdict[int, Counter[str]] = defaultdict(Counter)
    overall: Counter[str] = Counter()
    for item, review in zip(train.item, train.review, strict=True):
        sentences = [part.strip() for part in _SENTENCE.split(review or "") if part.strip()]
        by_item[int(item)].update(sentences)
        overall.update(sentences)
    common = _most_frequent(overall)
    frequent = {item: _most_frequent(counts) or common for item, counts in by_item.items()}
    draw = hashed_uniform(0, "a training review at random", hash_ids(table.example_id), 1)[:, 0]
    reviews = [review or "" for review in train.review] or [""]
    return {
        FREQUENT: [frequent.get(int(item), common) for item in table.item],
        RANDOM: [reviews[int(chance * len(reviews))] for chance in draw],
    }


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda sentence: (-counts[sentence], sentence), default="")


def review_rows(table: ExampleTable, texts: dict[str, list[str]]) -> pd.DataFrame:
    """Rows of ``predictions/<split>-review.parquet``: every source's text and the user's own."""
    frames = [
        pd.DataFrame(
            {
                "source": source,
                "example_id": table.example_id,
                "user": table.user,
                "item": table.item,
                "rating": table.label,
                "text": written,
                "reference": [review or "" for review in table.review],
            }
        )
        for source, written in texts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def text_metrics(rows: pd.DataFrame, split: str, tag: str, task: Task) -> dict[str, float]:
    """Flat metrics of a file of texts, from it alone; other sources than the model are prefixed with their name.

    The baselines decode nothing, but get the same tag, so that they can be compared with the model's rows.
    """
    found: dict[str, float] = {}
    for source, part in rows.groupby("source", sort=False):
        key = f"{split}/{task.name}/" if source == "model" else f"{source}/{split}/{task.name}/"
        sample = task.sample(part)
        values = {metric.name: metric.value(sample) for metric in task.metrics}
        values |= {"users": part["user"].nunique(), "unusable": int((part["text"].fillna("") == "").sum())}
        found.update({f"{key}{name}{tag}": value for name, value in values.items() if value == value})
    return found


def text_of_run(run: Path, split: str, table: ExampleTable, task: Task) -> list[str] | None:
    """The texts that another run wrote for the same examples; None where it wrote none, or not all of them."""
    path = run / "predictions" / f"{split}-{task.name}.parquet"
    if not path.is_file():
        return None
    rows = pd.read_parquet(path)
    mine = rows[rows["source"] == "model"].set_index("example_id")["text"]
    return mine.reindex(table.example_id).tolist() if set(table.example_id) <= set(mine.index) else None
