"""Proof that nothing leaks: counts of every kind of leak over all examples; any above zero stops the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ckf.errors import DataError

Finding = dict[str, Any]


def audit_examples(examples: pd.DataFrame, interactions: pd.DataFrame, titles: Mapping[int, str]) -> dict[str, Finding]:
    """Count leaks by kind; each finding holds the count and the first example id.

    ``titles`` are normalised titles by item. Histories that the source brings have no times of
    their own, so whether they are earlier is checked only where the interaction is known.
    """
    leaks: dict[str, list[str]] = {
        name: []
        for name in (
            "target_in_history",
            "target_title_in_history",
            "history_not_earlier",
            "negative_is_positive",
            "duplicate_titles_among_candidates",
            "target_not_among_candidates",
        )
    }
    when = dict(
        zip(zip(interactions["user"], interactions["item"], strict=True), interactions["timestamp"], strict=True)
    )
    liked = interactions[interactions["click"] == 1]
    everywhere = liked.groupby("user")["item"].agg(set).to_dict()
    in_train = liked[liked["split"] == "train"].groupby("user")["item"].agg(set).to_dict()
    columns = ("example_id", "task", "split", "user", "item", "timestamp", "history", "candidates", "position")
    for name, task, split, user, item, time, history, candidates, position in zip(
        *(examples[column] for column in columns), strict=True
    ):
        past = [int(i) for i in history]
        if item in past:
            leaks["target_in_history"].append(name)
        elif titles[item] in {titles[i] for i in past}:
            leaks["target_title_in_history"].append(name)
        if any(when.get((user, i), time - 1) > time or _same_time(when, user, i, time, interactions) for i in past):
            leaks["history_not_earlier"].append(name)
        if task != "topk":
            continue
        listed = [int(i) for i in candidates]
        if not (0 <= position < len(listed)) or listed[position] != item:
            leaks["target_not_among_candidates"].append(name)
        positives = (in_train if split == "train" else everywhere).get(user, set()) | set(past)
        if any(i in positives and i != item for i in listed):
            leaks["negative_is_positive"].append(name)
        if len({titles[i] for i in listed}) < len(listed):
            leaks["duplicate_titles_among_candidates"].append(name)
    twice = examples.loc[examples["example_id"].duplicated(), "example_id"].tolist()
    pairs = interactions[interactions.duplicated(["user", "item"])]
    leaks["duplicate_example_ids"] = twice
    leaks["pair_in_two_splits"] = [f"{u}-{i}" for u, i in zip(pairs["user"], pairs["item"], strict=True)]
    return {kind: {"count": len(ids), "first": ids[0] if ids else None} for kind, ids in leaks.items()}


def _same_time(
    when: Mapping[tuple[int, int], int], user: int, item: int, time: int, interactions: pd.DataFrame
) -> bool:
    """Equal times count as a leak where we made the history; a source's own may hold them (CoLLM's does)."""
    return "history" not in interactions.columns and when.get((user, item)) == time


def refuse_violations(found: Mapping[str, Finding]) -> None:
    """Stop on any finding.

    Raises:
        DataError: names each kind with its count and first example.
    """
    bad = [
        f"{kind} {finding['count']} (first: {finding['first']})" for kind, finding in found.items() if finding["count"]
    ]
    if bad:
        raise DataError(f"the audit found leaks: {'; '.join(bad)}")
