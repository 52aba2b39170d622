"""Spoiled values where a file is no lines of text: CoLLM's pickles, the processed folder, parquet tables."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ckf.config.schema import CollmConfig, DatasetConfig, ProcessedJsonConfig, SplitConfig, TabularConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.prepare import build_dataset
from tests.unit.data.readers.small_sources import ROWS, TITLES

ODD: list[Any] = [None, "", " ", "nan", "x", "7", -1, 0, 2, 7.5, math.nan, math.inf, 2**70, True, [], [1], {"a": 1}]
CASES = 40


def _collm(root: Path, rng: random.Random) -> tuple[DatasetConfig, int | None]:
    tables = {}
    for name, part in (("train", ROWS[:80]), ("valid", ROWS[80:100]), ("test", ROWS[100:])):
        rows = [
            {"uid": int(u), "iid": int(i), "label": int(r > 3), "timestamp": t, "his": [0, 1], "his_title": ["", "A"],
             "title": TITLES[i]}
            for u, i, r, t in part
        ]  # fmt: skip
        tables[name] = pd.DataFrame(rows)
    table = tables[rng.choice(list(tables))]
    for _ in range(rng.randint(0, 2)):
        column = rng.choice(list(table.columns))
        values = list(table[column])
        values[rng.randrange(len(values))] = rng.choice(ODD)
        table[column] = pd.Series(values, index=table.index, dtype=object if column != "uid" else None)
    for name, table in tables.items():
        table.to_pickle(root / f"{name}_ood2.pkl")
    if rng.random() < 0.2:
        path = root / "valid_ood2.pkl"
        path.write_bytes(path.read_bytes()[: -rng.randint(1, 3000)])
    return CollmConfig("collm_ml1m", root=str(root)), len(ROWS)


def _processed(root: Path, rng: random.Random) -> tuple[DatasetConfig, int | None]:
    sequences: dict[str, list[Any]] = {}
    ratings: dict[str, list[Any]] = {}
    for user, item, rating, _ in ROWS:
        sequences.setdefault(user, [user]).append(item)
        ratings.setdefault(user, []).append(rating)
    files: dict[str, dict[str, Any]] = {
        "user_sequences_id.json": sequences, "user_rating.json": ratings, "id_2_title.json": dict(TITLES)
    }  # fmt: skip
    for _ in range(rng.randint(0, 2)):
        content = files[rng.choice(list(files))]
        key = rng.choice(list(content))
        if isinstance(content[key], list) and content[key] and rng.random() < 0.7:
            content[key][rng.randrange(len(content[key]))] = rng.choice(ODD)
        else:
            content[key] = rng.choice(ODD)
    for name, content in files.items():
        (root / name).write_text(json.dumps(content))
    if rng.random() < 0.2:
        path = root / rng.choice(list(files))
        path.write_bytes(path.read_bytes()[: -rng.randint(1, 400)])
    listed = [len(row) - 1 for row in sequences.values() if isinstance(row, list)]
    return ProcessedJsonConfig("processed_json", root=str(root)), sum(listed)


def _parquet(root: Path, rng: random.Random) -> tuple[DatasetConfig, int | None]:
    columns = dict(zip(("user", "item", "rating", "timestamp"), map(list, zip(*ROWS, strict=True)), strict=True))
    for _ in range(rng.randint(0, 3)):
        values = columns[rng.choice(list(columns))]
        kind = type(values[0])
        odd = [value for value in ODD if value is None or (isinstance(value, kind) and not isinstance(value, bool))]
        odd = [value for value in odd if not isinstance(value, int) or abs(value) < 2**60]
        values[rng.randrange(len(values))] = rng.choice([*odd, None])
    pd.DataFrame(columns).to_parquet(root / "log.parquet")
    pd.DataFrame({"item": list(TITLES), "title": list(TITLES.values())}).to_parquet(root / "items.parquet")
    if rng.random() < 0.1:
        path = root / "log.parquet"
        path.write_bytes(path.read_bytes()[: -rng.randint(1, 400)])
    return TabularConfig("parquet", root=str(root), interactions="log.parquet", items="items.parquet"), len(ROWS)


@pytest.mark.parametrize("write", [_collm, _processed, _parquet])
def test_no_row_is_lost_uncounted(tmp_path: Path, write: Callable) -> None:
    made = sum(
        one_case(tmp_path / str(seed), write, random.Random(f"{write.__name__} {seed}")) for seed in range(CASES)
    )
    assert made > CASES // 5, "too many are refused whole to test the counts"


def one_case(root: Path, write: Callable, rng: random.Random) -> bool:
    """Write a spoiled folder and prepare it; whether a dataset was made."""
    (root / "in").mkdir(parents=True)
    (out := root / "out").mkdir()
    cfg, rows = write(root / "in", rng)
    split = "provided" if write is _collm else "leave_last_out"
    refused = None
    try:
        build_dataset(replace(cfg, max_bad_rows=1000), SplitConfig(split), out)
    except DataError as error:
        refused = str(error)
    if refused is not None:
        assert refused.strip()
        assert "\n" not in refused
        assert list(out.iterdir()) == []
        return False
    manifest = read_json(out / "manifest.json")
    repeats = manifest["duplicates"]["exact_copies_dropped"] + manifest["duplicates"]["other_repeats_dropped"]
    left = next(step["rows"] for step in reversed(manifest["steps"]) if not step["step"].startswith("split"))
    assert manifest["rows_read"] == rows
    assert manifest["rows_read"] == left + repeats + manifest["bad_rows"]["total"]
    return True
