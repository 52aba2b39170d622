"""Leaks to plant in histories: what a prompt says of the past is not the user's own, or not past."""

from __future__ import annotations

import numpy as np

from tests.unit.data.planted import Planted


def target_in_history(p: Planted) -> None:
    i = p.index("ctr", history=2)
    p.set(i, "history", np.append(p.examples.at[i, "history"][:-1], p.examples.at[i, "item"]))


def target_title_in_history(p: Planted) -> None:
    i = p.index("ctr", history=2)
    twin, target = int(p.examples.at[i, "history"][0]), int(p.examples.at[i, "item"])
    titles = p.items.set_index("item")["title"]
    p.items.loc[p.items["item"] == twin, "title"] = titles[target].upper() + "!"


def history_not_earlier(p: Planted) -> None:
    i = p.index("ctr", "train", history=2)
    later = p.mine(i).query("click == 1")["item"].iloc[-1]
    p.set(i, "history", np.append(p.examples.at[i, "history"][1:], later))


def history_at_the_same_time(p: Planted) -> None:
    i = p.index("ctr", history=2)
    last, row = p.examples.at[i, "history"][-1], p.examples.loc[i]
    same = (p.interactions["user"] == row["user"]) & (p.interactions["item"] == last)
    p.interactions.loc[same, "timestamp"] = row["timestamp"]


def history_out_of_order(p: Planted) -> None:
    i = p.index("ctr", history=3)
    p.set(i, "history", p.examples.at[i, "history"][::-1].copy())


def history_of_another_user(p: Planted) -> None:
    i = p.index("ctr", history=2)
    met = set(p.mine(i)["item"])
    stranger = next(item for item in p.items["item"] if item not in met)
    p.set(i, "history", np.append(p.examples.at[i, "history"][1:], stranger))


def histories_shared_by_users(p: Planted) -> None:
    """The released notebook: every user gets the last row's history."""
    last = p.examples["history"].iloc[p.index("ctr", history=4)]
    p.examples["history"] = [last] * len(p.examples)


def history_holds_disliked(p: Planted) -> None:
    i = next(
        i for i in p.examples.index[p.examples["task"] == "ctr"]
        if len(p.mine(i).query(f"click == 0 and timestamp < {p.examples.at[i, 'timestamp']}"))
    )  # fmt: skip
    disliked = p.mine(i).query(f"click == 0 and timestamp < {p.examples.at[i, 'timestamp']}")["item"].iloc[0]
    p.set(i, "history", np.asarray([disliked, disliked], dtype=np.int32))


def history_lacks_items(p: Planted) -> None:
    """Truncated into a different question: the newest items are gone."""
    i = p.index("topk", history=5)
    p.set(i, "history", p.examples.at[i, "history"][:2])


def history_too_long(p: Planted) -> None:
    i = p.index("rating", history=5)
    p.set(i, "history", np.repeat(p.examples.at[i, "history"], 2))
    p.set(i, "history_ratings", np.repeat(p.examples.at[i, "history_ratings"], 2))


def train_history_from_held_out(p: Planted) -> None:
    i = p.index("ctr", "train", history=2)
    held = p.mine(i, "test")["item"].iloc[0]
    p.set(i, "history", np.append(p.examples.at[i, "history"][1:], held))


def history_ratings_differ(p: Planted) -> None:
    i = p.index("rating", history=2)
    p.set(i, "history_ratings", 6 - p.examples.at[i, "history_ratings"])
