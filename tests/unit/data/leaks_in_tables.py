"""Leaks to plant in splits, labels, counts, ids and texts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.unit.data.planted import Planted


def duplicate_example_ids(p: Planted) -> None:
    p.examples = pd.concat([p.examples, p.examples.iloc[[3]]], ignore_index=True)


def pair_in_two_splits(p: Planted) -> None:
    row = p.interactions.query("split == 'train'").iloc[[0]]
    newest = p.interactions["timestamp"].max() + 1
    p.interactions = pd.concat([p.interactions, row.assign(split="test", timestamp=newest)], ignore_index=True)


def example_in_another_split(p: Planted) -> None:
    i = p.index("ctr", "test")
    p.set(i, "split", "train")


def labels_differ(p: Planted) -> None:
    i = p.index("ctr")
    p.set(i, "label", 1 - p.examples.at[i, "label"])


def warm_flags_from_train(p: Planted) -> None:
    """Warm by all interactions instead of the training ones."""
    cold = p.examples.index[~p.examples["warm_seen"]]
    p.examples.loc[cold, "warm_seen"] = True


def item_counts_from_train(p: Planted) -> None:
    """Item statistics over every split."""
    p.items["n_train"] = p.items["item"].map(p.interactions["item"].value_counts()).fillna(0).astype("int32")


def user_counts_from_train(p: Planted) -> None:
    p.users["n_train"] = p.users["user"].map(p.interactions["user"].value_counts()).fillna(0).astype("int32")


def split_order(p: Planted) -> None:
    """One test row older than all of training."""
    first = p.interactions.index[p.interactions["split"] == "test"][0]
    p.interactions.loc[first, "timestamp"] = p.interactions["timestamp"].min()


def future_across_users(p: Planted) -> None:
    first = p.interactions.index[p.interactions["split"] == "train"][0]
    p.interactions.loc[first, "timestamp"] = p.interactions["timestamp"].max() + 9


def ids_in_tables(p: Planted) -> None:
    p.users = p.users.iloc[1:]


def empty_titles(p: Planted) -> None:
    p.items.loc[4, "title"] = "  "


def empty_reviews(p: Planted) -> None:
    p.set(p.index("explain"), "review", " ")


def reviews_name_the_rating(p: Planted) -> None:
    rows = p.examples["task"] == "explain"
    p.examples.loc[rows, "review"] = [f"I give it {x:g} stars." for x in p.examples.loc[rows, "label"]]


def sequential_user_ids(p: Planted) -> None:
    """User ids given out in the order of first appearance."""
    first = p.interactions.groupby("user")["timestamp"].min().sort_values()
    new = pd.Series(np.arange(1, len(first) + 1), index=first.index)
    p.interactions["user"] = p.interactions["user"].map(new).astype("int32")


def split_names(p: Planted) -> None:
    p.interactions.loc[5, "split"] = "dev"


def example_without_interaction(p: Planted) -> None:
    i = p.index("ctr")
    met = set(p.mine(i)["item"])
    p.set(i, "item", next(x for x in p.items["item"] if x not in met))
