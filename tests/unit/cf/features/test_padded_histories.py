"""Histories: strictly earlier likes, the newest at the right, never a later item and never the row's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ckf.cf.data import CFData
from ckf.cf.features.padded_histories import earlier_likes, padded_histories
from ckf.data.readers.synthetic import make_synthetic
from tests.worlds import SMALL, write_world


def naive(rows: list[tuple[int, int, int, int]], width: int) -> list[list[int]]:
    found = []
    for user, _, _, when in rows:
        earlier = [(t, k, i) for k, (u, i, c, t) in enumerate(rows) if u == user and c and t < when]
        last = [item for _, _, item in sorted(earlier)][-width:]
        found.append([0] * (width - len(last)) + last)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_earlier_likes_as_a_loop_would_find_them(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = [tuple(int(x) for x in draw.integers((1, 1, 0, 0), (4, 9, 2, 6))) for _ in range(30)]
    columns = [np.asarray(column) for column in zip(*rows, strict=True)]
    assert earlier_likes(*columns, 3).tolist() == naive(rows, 3)  # type: ignore[arg-type]


def test_lists_are_cut_to_the_newest_and_padded_at_the_left() -> None:
    lists = pa.chunked_array([pa.array([[1, 2, 3], [], None]), pa.array([[4]])])
    assert padded_histories(lists, 2).tolist() == [[2, 3], [0, 0], [0, 0], [0, 4]]
    assert padded_histories(lists, 0).shape == (4, 0)


def test_training_rows_have_the_histories_of_their_examples(tmp_path) -> None:
    """What the model reads while it is fitted is what it reads when it predicts."""
    dataset, examples = write_world(tmp_path, make_synthetic(SMALL))
    data = CFData.load(dataset, history_items=5)
    table = pd.read_parquet(examples / "examples.parquet").query("task == 'ctr'")
    found = {(u, i): list(h) for u, i, h in zip(table["user"], table["item"], table["history"], strict=True)}
    for part in (data.train, data.val):
        assert part.history.shape == (len(part.user), 5)
        for user, item, history in zip(part.user, part.item, part.history, strict=True):
            assert history[history > 0].tolist() == found[user, item]


def test_histories_know_no_test_row(tmp_path) -> None:
    dataset, _ = write_world(tmp_path, make_synthetic(SMALL))
    before = CFData.load(dataset, 5)
    rows = pd.read_parquet(dataset / "interactions.parquet")
    rows.loc[rows["split"] == "test", "click"] = 1
    rows.to_parquet(dataset / "interactions.parquet")
    after = CFData.load(dataset, 5)
    assert (before.val.history == after.val.history).all()
    assert (before.train.history == after.train.history).all()
