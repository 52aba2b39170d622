"""Leaks to plant in candidate lists."""

from __future__ import annotations

import numpy as np

from tests.unit.data.planted import Planted


def negative_is_positive(p: Planted) -> None:
    i = p.index("topk", "test")
    row = p.examples.loc[i]
    other = next(x for x in p.mine(i).query("click == 1")["item"] if x != row["item"])
    listed = row["candidates"].copy()
    listed[(row["position"] + 1) % len(listed)] = other
    p.set(i, "candidates", listed)


def negatives_avoid_held_out(p: Planted) -> None:
    """Training negatives filtered by the positives of every split."""
    liked = p.interactions[p.interactions["click"] == 1].groupby("user")["item"].agg(set).to_dict()
    draw = np.random.default_rng(0)
    for i in p.examples.index[(p.examples["task"] == "topk") & (p.examples["split"] == "train")]:
        row = p.examples.loc[i]
        free = np.asarray([x for x in p.items["item"] if x not in liked[row["user"]]])
        listed = draw.choice(free, len(row["candidates"]), replace=False).astype(np.int32)
        listed[row["position"]] = row["item"]
        p.set(i, "candidates", listed)


def duplicate_titles_among_candidates(p: Planted) -> None:
    listed = p.examples.at[p.index("topk"), "candidates"]
    titles = p.items.set_index("item")["title"]
    p.items.loc[p.items["item"] == listed[0], "title"] = titles[int(listed[1])].lower()


def target_not_among_candidates(p: Planted) -> None:
    i = p.index("topk")
    p.set(i, "position", (p.examples.at[i, "position"] + 1) % 5)


def candidate_count(p: Planted) -> None:
    """A list cut short, as a tokenizer that truncates would."""
    i = p.examples.index[(p.examples["task"] == "topk") & (p.examples["position"] < 3)][0]
    p.set(i, "candidates", p.examples.at[i, "candidates"][:-1])


def candidate_position(p: Planted) -> None:
    """The target always first."""
    for i in p.examples.index[p.examples["task"] == "topk"]:
        row = p.examples.loc[i]
        rest = np.delete(row["candidates"], row["position"])
        p.set(i, "candidates", np.insert(rest, 0, row["item"]))
        p.set(i, "position", 0)


def candidates_as_frozen(p: Planted) -> None:
    """Another method's lists: one negative exchanged for another clean one."""
    i = p.index("topk", "test")
    row = p.examples.loc[i]
    met = {*p.mine(i)["item"], *row["candidates"]}
    listed = row["candidates"].copy()
    listed[(row["position"] + 1) % 5] = next(x for x in p.items["item"] if x not in met)
    p.set(i, "candidates", listed)
