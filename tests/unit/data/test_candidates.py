"""Candidate lists and histories against a plain loop, and every option of how examples are made."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ckf.config.schema import CollmConfig, SplitConfig
from ckf.core.errors import DataError
from ckf.core.rng import hash_ids, hashed_uniform
from ckf.data import examples as examples_module
from ckf.data.audit import audit
from ckf.data.candidates import CandidateHash, CandidateRows, CandidateSampler
from ckf.data.examples import build_examples, first_words
from ckf.data.interactions import InteractionLog
from ckf.data.prepare import build_dataset
from ckf.data.ragged import PairIndex, RaggedArray
from tests.worlds import SHARED_ML1M, TASKS, small_source, write_world

SETTINGS = {"history_items": 5, "candidates": 5, "review_words": 100, "seed": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_world(tmp_path_factory.mktemp("world"), small_source())


def built(dataset: Path, out: Path, tasks: list[str] = TASKS, **settings: object) -> pd.DataFrame:
    out.mkdir()
    build_examples(dataset, tasks, out=out, **{**SETTINGS, **settings})
    return pd.read_parquet(out / "examples.parquet")


def test_lists_equal_a_loop_over_the_draws(world: tuple[Path, Path]) -> None:
    """The definition, row by row: the draws in their order, without what is barred, until there are enough."""
    log = InteractionLog.load(world[0])
    liked = [(u, i, s) for u, i, c, s in zip(log.user, log.item, log.click, log.split, strict=True) if c]
    table = pd.read_parquet(world[1] / "examples.parquet").query("task == 'topk'")
    count = 5
    for row in table.itertuples():
        keys = hash_ids([row.example_id])
        barred = {int(i) for u, i, s in liked if u == row.user and (row.split != "train" or s == 0)}
        barred |= {*row.history.tolist(), row.item}
        chosen: list[int] = []
        for attempt in range(9):
            purpose = "negatives" if attempt == 0 else f"negatives, again {attempt}"
            for value in hashed_uniform(0, purpose, keys, 4 * count)[0]:
                item = int(log.catalogue[int(value * len(log.catalogue))])
                if item not in barred and item not in chosen and len(chosen) < count - 1:
                    chosen.append(item)
        order = np.argsort(hashed_uniform(0, "candidate order", keys, count)[0], kind="stable")
        assert row.candidates.tolist() == [[row.item, *chosen][place] for place in order]


def test_blocks_do_not_show(world: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples_module, "_BLOCK", 37)
    again = built(world[0], tmp_path / "again")
    pd.testing.assert_frame_equal(again, pd.read_parquet(world[1] / "examples.parquet"))
    file = pq.ParquetFile(tmp_path / "again" / "examples.parquet")
    assert file.num_row_groups > 50
    hashes = [
        json.loads((folder / "manifest.json").read_text())["candidate_lists_sha256"]
        for folder in (world[1], tmp_path / "again")
    ]
    assert hashes[0] == hashes[1]
    assert set(hashes[0]) == {"train", "val", "test"}


def test_the_hash_tells_lists_apart(world: tuple[Path, Path]) -> None:
    table = pq.read_table(world[1] / "examples.parquet")
    first, second = CandidateHash(), CandidateHash()
    first.add(table)
    frame = table.to_pandas()
    i = frame.index[frame["task"] == "topk"][0]
    frame.at[i, "candidates"] = frame.at[i, "candidates"][::-1].copy()
    second.add(pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False))
    split = frame.at[i, "split"]
    assert {name for name in first.digests() if first.digests()[name] != second.digests()[name]} == {split}


def test_popular_items_are_drawn_more_often_and_held_out_counts_do_not_matter(
    world: tuple[Path, Path], tmp_path: Path
) -> None:
    log = InteractionLog.load(world[0])
    count = log.train_counts("item")
    even, popular = (
        pd.read_parquet(world[1] / "examples.parquet"),
        built(world[0], tmp_path / "p", negatives="popularity"),
    )

    def mean_count(table: pd.DataFrame) -> float:
        rows = table[table["task"] == "topk"]
        return float(np.mean([count[i] for row in rows.itertuples() for i in row.candidates if i != row.item]))

    assert mean_count(popular) > mean_count(even) + 1
    assert audit(world[0], tmp_path / "p").conclusion == "pass"
    assert (tmp_path / "p" / "manifest.json").read_text().count('"popularity"') == 1


def test_a_catalogue_that_is_nearly_barred_is_searched_to_the_end() -> None:
    """User 1 likes all but three items: the draws alone would hardly find them."""
    items, n = np.arange(1, 20_001), 19_997
    log = InteractionLog(
        user=np.ones(n, np.int64), item=items[:n], rating=np.full(n, np.nan, np.float32), click=np.ones(n, np.int8),
        timestamp=np.arange(n), split=np.zeros(n, np.int8), catalogue=items, title=np.arange(20_001, dtype=np.int32),
    )  # fmt: skip
    none = RaggedArray(np.empty(0, np.int64), np.zeros(2, np.int64))
    rows = CandidateRows(hash_ids(["x"]), np.asarray([1]), np.asarray([5]), np.asarray([0]), none)
    listed, position, found = CandidateSampler(log, 4, 0).draw(rows)
    assert sorted(listed[0].tolist()) == [5, 19_998, 19_999, 20_000]
    assert listed[0, position[0]] == 5
    assert found.tolist() == [4]
    assert CandidateSampler(log, 5, 0).draw(rows)[2].tolist() == [4]  # one too few


def tied(folder: Path) -> Path:
    """The small world with every user's interactions in pairs of one second."""
    dataset, _ = write_world(folder, small_source())
    table = pq.read_table(dataset / "interactions.parquet").to_pandas().sort_values(["user", "timestamp", "item"])
    place = table.groupby("user").cumcount()
    first = table["timestamp"].where(place % 2 == 0).groupby(table["user"]).ffill().astype("int64")
    whole = table["split"] == table.groupby(["user", first])["split"].transform("first")
    table["timestamp"] = first.where(whole, table["timestamp"])
    schema = pq.read_schema(dataset / "interactions.parquet")
    columns = [pa.array(table[name].tolist(), schema.field(name).type, from_pandas=True) for name in schema.names]
    pq.write_table(pa.table(columns, schema=schema), dataset / "interactions.parquet")
    return dataset


def test_items_of_the_targets_own_second(tmp_path: Path) -> None:
    dataset = tied(tmp_path)
    log = InteractionLog.load(dataset)

    def same_second(table: pd.DataFrame) -> set[tuple[int, int, int]]:
        found = set()
        for row in table[table["task"] == "rating"].itertuples():
            times = log.timestamp[log.pairs.rows(np.full(len(row.history), row.user), row.history)]
            found |= {(row.user, row.item, int(i)) for i in row.history[times == row.timestamp]}
        return found

    out = {
        name: built(dataset, tmp_path / name, ["rating"], history_same_timestamp=name)
        for name in ("auto", "exclude", "keep")
    }
    assert not same_second(out["exclude"])
    pd.testing.assert_frame_equal(out["auto"], out["exclude"])
    kept = same_second(out["keep"])
    assert len(kept) > 100
    assert not any((user, seen, item) in kept for user, item, seen in kept), "no two targets see each other"
    assert audit(dataset, tmp_path / "exclude")["history_at_the_same_time"].level == "pass"
    line = audit(dataset, tmp_path / "keep")["history_at_the_same_time"]
    assert (line.level, line.count) == ("warn", len({(user, item) for user, item, _ in kept}))


def test_the_released_protocol(world: tuple[Path, Path], tmp_path: Path) -> None:
    table = built(world[0], tmp_path / "r", protocol="released", history_items=20)
    log = InteractionLog.load(world[0])
    assert table["history"].str.len().max() == 9
    ctr = table[table["task"] == "ctr"]
    assert len(ctr) == len(log)
    replaced = ctr["item"] != ctr["example_id"].str.split("-").str[-1].astype(int)
    assert 0.4 < replaced.mean() < 0.6
    assert (ctr.loc[replaced, "label"] == 0).all()
    pairs = PairIndex(log.user, log.item)
    assert pairs.has(ctr.loc[replaced, "user"].to_numpy(), ctr.loc[replaced, "item"].to_numpy()).any(), "own positives"
    topk = table[table["task"] == "topk"]
    assert len(topk) == len(log), "every interaction counts as a positive"
    own = [pairs.has(np.full(5, row.user), row.candidates).sum() for row in topk.itertuples()]
    assert np.mean(own) > 1.5, "negatives may be the user's own positives"
    report = audit(world[0], tmp_path / "r")
    assert report.protocol == "released"
    assert not report.of_level("stop")
    assert report["negative_is_positive"].level == "warn"
    line = report["negatives_avoid_held_out"]  # 4 draws from 50 items, none of them barred
    assert 0.9 < line.count / float(re.search(r"([\d.]+) are expected", line.message)[1]) < 1.3


def test_the_released_row_counts_on_collms_split(tmp_path: Path) -> None:
    if not SHARED_ML1M.is_dir():
        pytest.skip(f"CoLLM's ML-1M pickles are not at {SHARED_ML1M}: the released counts are not checked")
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    build_dataset(CollmConfig(name="collm_ml1m", root=str(SHARED_ML1M)), SplitConfig(name="provided"), dataset)
    ctr = built(dataset, tmp_path / "r", ["ctr"], protocol="released")
    counts = ctr["split"].value_counts()
    assert (counts["train"], counts["test"]) == (14_760, 1_865)
    strict = built(dataset, tmp_path / "s", ["ctr", "topk"], history_items=10, candidates=10)
    report = audit(dataset, tmp_path / "s")
    assert not report.of_level("stop")
    line = report["history_at_the_same_time"]
    assert (line.level, line.count, line.of) == ("warn", 17_749, len(strict))
    assert report["eval_history_from_held_out"].count == 25_917
    excluded = built(dataset, tmp_path / "e", ["ctr"], history_same_timestamp="exclude", history_items=10)
    assert len(excluded) == 51_623
    assert audit(dataset, tmp_path / "e")["history_at_the_same_time"].count == 0


def test_training_histories_hold_no_held_out_item_when_items_are_split(tmp_path: Path) -> None:
    dataset, _ = write_world(tmp_path, small_source())
    table = pq.read_table(dataset / "interactions.parquet")
    split = np.asarray(["train", "val", "test"], dtype=object)[np.asarray(table["item"]) % 3]
    table = table.set_column(table.schema.get_field_index("split"), "split", pa.array(split.tolist()))
    pq.write_table(table, dataset / "interactions.parquet")
    rows = built_without_audit(dataset, tmp_path / "c")
    held = set(np.asarray(table["item"])[split != "train"].tolist())
    train = rows[rows["split"] == "train"]
    assert len(train) > 100
    assert not any(held & set(history) for history in train["history"])


def built_without_audit(dataset: Path, out: Path) -> pd.DataFrame:
    """The tables' own statistics no longer fit here, so the audit stops; the examples are written before."""
    with pytest.raises(DataError, match="the audit found leaks: user_counts_from_train"):
        built(dataset, out)
    return pd.read_parquet(out / "examples.parquet")


def test_first_words_are_those_of_python() -> None:
    texts = [None, "", "  ", "one", " two  words\n", "a\tb\u00a0c d", "x " * 50]
    expected = [None if text is None else " ".join(text.split()[:3]) for text in texts]
    assert first_words(pa.array(texts), 3).to_pylist() == expected
