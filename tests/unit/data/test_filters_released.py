"""The presets amazon_books and amazon_movies: the released filters in their order, cold users out of training."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ckf.config.compose import compose
from ckf.core.artifact_store import read_json
from ckf.data.prepare import build_dataset

Row = tuple[str, str, int]
SINCE = 1_388_534_400  # 2014-01-01


def made_rows() -> list[Row]:
    """Distinct (user, item) pairs around 2014; the counts lie close to the thresholds of 10 and 20."""
    draw = np.random.default_rng(5)
    rows = []
    for user in range(90):
        liked = draw.choice(220, size=int(draw.integers(12, 45)), replace=False, p=POPULAR)
        rows += [(f"U{user}", f"I{item}", SINCE + int(draw.integers(-4_000_000, 12_000_000))) for item in liked]
    return rows


POPULAR = (np.arange(220, 0, -1) ** 1.5) / (np.arange(220, 0, -1) ** 1.5).sum()


def since(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row[2] >= SINCE]


def often(place: int, least: int) -> Callable[[list[Row], list[Row]], list[Row]]:
    def kept(rows: list[Row], counted: list[Row]) -> list[Row]:
        seen = Counter(row[place] for row in counted)
        return [row for row in rows if seen[row[place]] >= least]

    return kept


users, items = often(0, 20), often(1, 10)


def released(rows: list[Row]) -> list[list[Row]]:
    """What is left after each step, as REFERENCE section 1 describes it, in plain Python."""
    recent = since(rows)
    popular = items(recent, recent)
    return [recent, popular, users(popular, recent)]


def write(root: Path, preset: str, rows: list[Row]) -> None:
    books = preset == "amazon_books"
    mark = {"helpful": [0, 0]} if books else {"verified": True}
    category = "Books" if books else "Movies_and_TV"
    reviews = [
        {"reviewerID": u, "asin": i, "overall": 5.0, "unixReviewTime": t, "reviewText": "x", **mark} for u, i, t in rows
    ]
    meta = [{"asin": item, "title": f"Title {item}"} for item in sorted({row[1] for row in rows})]
    names = f"{'reviews_' if books else ''}{category}_5.json.gz", f"meta_{category}.json.gz"
    for name, lines, form in ((names[0], reviews, json.dumps), (names[1], meta, repr if books else json.dumps)):
        (root / name).write_bytes(gzip.compress("".join(form(line) + "\n" for line in lines).encode()))


@pytest.mark.parametrize("preset", ["amazon_books", "amazon_movies"])
def test_the_released_counts_and_those_of_no_other_order(tmp_path: Path, preset: str) -> None:
    rows = made_rows()
    steps = released(rows)
    steps_by_hand = {"since": since, "items": lambda r: items(r, r), "users": lambda r: users(r, r)}
    others = {}
    for order in itertools.permutations(steps_by_hand):
        left = rows
        for name in order:
            left = steps_by_hand[name](left)
        others[order] = len(left)
    counts = [len(steps[-1]), *others.values()]
    assert len(set(counts)) == len(counts) == 7, counts  # else the data would prove nothing

    write(tmp_path, preset, rows)
    exp, _ = compose([f"dataset={preset}", f"dataset.root={tmp_path}"])
    (out := tmp_path / "out").mkdir()
    build_dataset(exp.dataset, exp.split, out)
    found = [(step["rows"], step["users"], step["items"]) for step in read_json(out / "manifest.json")["steps"]]
    expected = [
        (len(left), len({u for u, _, _ in left}), len({i for _, i, _ in left})) for left in (rows, rows, *steps)
    ]
    assert found[:5] == expected


def test_users_with_few_interactions_left_are_kept_out_of_training(tmp_path: Path) -> None:
    rows = made_rows()
    # users with 20 recent interactions, of which 5 and 6 are with items that stay
    for user, kept in (("V5", 5), ("V6", 6)):
        rows += [(user, f"I{n}", SINCE + 5_000_000 + n) for n in range(kept)]
        rows += [(user, f"rare-{user}-{n}", SINCE + n) for n in range(20 - kept)]
    left = released(rows)[-1]
    sizes = Counter(user for user, _, _ in left)
    assert (sizes["V5"], sizes["V6"]) == (5, 6)

    write(tmp_path, "amazon_books", rows)
    exp, _ = compose(["dataset=amazon_books", f"dataset.root={tmp_path}"])
    assert exp.split.name == "leave_last_out"
    (out := tmp_path / "out").mkdir()
    build_dataset(exp.dataset, exp.split, out)
    people = pl.read_parquet(out / "users.parquet").rename({"raw_id": "name"})
    log = pl.read_parquet(out / "interactions.parquet").join(people.select("user", "name"), on="user")
    splits = {name: set(log.filter(pl.col("name") == name)["split"]) for name in sizes}
    assert splits["V5"] == {"test"}
    assert splits["V6"] == {"train", "val", "test"}
    assert {name for name, found in splits.items() if found == {"test"}} == {
        n for n, size in sizes.items() if size <= 5
    }
    assert set(people.filter(pl.col("cold"))["name"]) == {n for n, size in sizes.items() if size <= 5}
