"""A user's repeated interactions with one item: which one stays is stated, and never a matter of line order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ckf.config.schema import ColumnsConfig, SplitConfig, TabularConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.prepare import build_dataset

START = 1_000_000_000
ONCE = [f"u{n},i{n % 3},3,{START + n},once {n}" for n in range(6)]
REPEATS = [
    f"v,i0,2,{START + 50},early",
    f"v,i0,5,{START + 90},late",
    f"v,i0,5,{START + 90},late",
    f"v,i0,5,{START + 90},",
    f"v,i0,4,{START + 60},between",
]


def prepared(root: Path, lines: list[str], policy: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    (root / "ratings.csv").write_text("\n".join(["user,item,rating,timestamp,review", *lines]) + "\n")
    (out := root / policy).mkdir(exist_ok=True)
    columns = ColumnsConfig(review="review")
    cfg = TabularConfig("csv", root=str(root), interactions="ratings.csv", columns=columns, duplicates=policy)
    build_dataset(cfg, SplitConfig("temporal", val_fraction=0.2, test_fraction=0.2), out)
    return pl.read_parquet(out / "interactions.parquet"), read_json(out / "manifest.json")["duplicates"]


@pytest.mark.parametrize(("policy", "rating"), [("first", 2.0), ("last", 5.0)])
def test_one_stays_whatever_the_order_of_lines(tmp_path: Path, policy: str, rating: float) -> None:
    found = []
    for lines in ([*ONCE, *REPEATS], [*REPEATS[::-1], *ONCE]):
        rows, counts = prepared(tmp_path, lines, policy)
        assert counts == {"policy": policy, "exact_copies_dropped": 1, "other_repeats_dropped": 3}
        assert rows.height == 7
        found.append(rows)
    assert found[0].equals(found[1])
    kept = found[0].filter(pl.col("timestamp") >= START + 50)
    assert kept["rating"].to_list() == [rating]


def test_refused_with_both_lines(tmp_path: Path) -> None:
    text = r"ratings\.csv: lines 8 and 9: user v and item i0 occur 5 times \(dataset.duplicates=refuse; first or"
    with pytest.raises(DataError, match=text):
        prepared(tmp_path, [*ONCE, *REPEATS], "refuse")
    rows, counts = prepared(tmp_path, ONCE, "refuse")
    assert (rows.height, counts["exact_copies_dropped"]) == (6, 0)
