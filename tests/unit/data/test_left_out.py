"""Examples without enough candidates: left out, counted and named by source ids; the others are made as ever."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ckf.config.compose import compose
from ckf.config.schema import DatasetConfig, SplitConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.audit import audit
from ckf.data.examples import build_examples
from ckf.data.prepare import write_dataset
from ckf.data.readers.base import Source
from ckf.pipeline.artifacts import prepare_dataset, prepare_examples

ITEMS, USERS = 30, 12


def rows(busy: int) -> list[tuple[str, str, float, int]]:
    """The first ``busy`` users like all items but one, the others a third; ids are not numbers."""
    draw = random.Random(0)
    found = []
    for user in range(USERS):
        for item in range(ITEMS):
            liked = item != user if user < busy else draw.random() < 0.3
            found.append((f"U{user}", f"I{item}", 5.0 if liked else 1.0, draw.randrange(10**9, 10**9 + 10**6)))
    return found


def source(busy: int, titles: int = ITEMS) -> Source:
    table = pl.DataFrame(rows(busy), schema=["user", "item", "rating", "timestamp"], orient="row")
    names = {"item": [f"I{n}" for n in range(ITEMS)], "title": [f"Thing {n % titles}" for n in range(ITEMS)]}
    return Source(table.lazy(), pl.LazyFrame(names))


def made(
    root: Path, source: Source, tasks: list[str], candidates: int = 10, **more: Any
) -> tuple[pl.DataFrame, dict[str, Any]]:
    dataset, examples = root / "dataset", root / "examples"
    dataset.mkdir()
    examples.mkdir()
    write_dataset(
        source, DatasetConfig("own"), SplitConfig("user_cold" if more.pop("cold", 0) else "temporal"), dataset
    )
    build_examples(dataset, tasks, history_items=5, candidates=candidates, review_words=9, seed=0, out=examples, **more)
    return pl.read_parquet(examples / "examples.parquet"), read_json(examples / "manifest.json")


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
@pytest.mark.parametrize("busy", [1, 3])
def test_the_examples_of_busy_users_are_left_out_and_counted(tmp_path: Path, busy: int, negatives: str) -> None:
    table, manifest = made(tmp_path, source(busy), ["ctr", "topk"], negatives=negatives)
    log = pl.read_parquet(tmp_path / "dataset" / "interactions.parquet")
    names = pl.read_parquet(tmp_path / "dataset" / "users.parquet")
    user_of = dict(names.select("raw_id", "user").iter_rows())
    left = manifest["left_out"]["topk"]
    topk = table.filter(pl.col("task") == "topk")
    assert sum(left["examples"].values()) + topk.height == left["of"] == log.filter(pl.col("click") == 1).height
    out = {user_of[f"U{n}"] for n in range(busy)}
    # training lists look at training likes alone, so some of a busy user's training rows may be there
    assert not out & set(topk.filter(pl.col("split") == "test")["user"])
    assert set(range(1, USERS + 1)) - out <= set(topk["user"])
    assert (
        table.filter(pl.col("task") == "ctr").height
        == log.filter(pl.col("split").is_in(["train", "val", "test"])).height
    )
    (warning,) = manifest["warnings"]
    assert f"for user '{left['first'].split(chr(39))[1]}' and item 'I" in warning
    assert left["first"].startswith("user 'U")


def test_what_is_left_is_as_without_the_busy_user(tmp_path: Path) -> None:
    """Leaving out examples moves no draw of the others: lists go by the example's name."""
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    few = made(tmp_path / "few", source(1), ["topk"], candidates=2)[0]
    many = made(tmp_path / "many", source(1), ["topk"], candidates=10)[0]
    both = many.join(few, on="example_id", suffix="_few")
    assert 0 < many.height < few.height
    assert both.height == many.height
    assert (both["history"] == both["history_few"]).all()


def test_titles_shared_by_nearly_all_items_leave_too_few(tmp_path: Path) -> None:
    table, manifest = made(tmp_path, source(0, titles=8), ["topk"])
    assert table.height == 0
    assert sum(manifest["left_out"]["topk"]["examples"].values()) == manifest["left_out"]["topk"]["of"] > 0


def test_a_small_catalogue_under_the_released_protocol(tmp_path: Path) -> None:
    table, manifest = made(tmp_path, source(0), ["ctr", "topk"], candidates=31, protocol="released")
    assert "topk" not in set(table["task"])
    assert "30 for user 'U" in manifest["warnings"][0]


def test_the_audit_counts_them(tmp_path: Path) -> None:
    _, manifest = made(tmp_path, source(1), ["topk"])
    line = audit(tmp_path / "dataset", tmp_path / "examples")["topk_examples_left_out"]
    left = manifest["left_out"]["topk"]
    assert (line.level, line.count, line.of) == ("warn", sum(left["examples"].values()), left["of"])
    assert line.first == left["first"]


def test_enough_candidates_say_nothing(tmp_path: Path) -> None:
    _, manifest = made(tmp_path, source(0), ["topk"])
    assert (manifest["left_out"], manifest["warnings"]) == ({}, [])
    assert "topk_examples_left_out" not in audit(tmp_path / "dataset", tmp_path / "examples")


def write_tables(root: Path, titles: int) -> list[str]:
    lines = [",".join(map(str, row)) for row in rows(0)]
    (root / "interactions.csv").write_text("user,item,rating,timestamp\n" + "\n".join(lines) + "\n")
    (root / "items.csv").write_text("item,title\n" + "".join(f"I{n},Thing {n % titles}\n" for n in range(ITEMS)))
    return ["dataset=csv", f"dataset.root={root}", "dataset.items=items.csv", f"paths.cache={root / 'cache'}"]


def test_a_run_stops_only_where_its_own_task_has_no_example_left(tmp_path: Path) -> None:
    words = write_tables(tmp_path, titles=8)
    exp = compose([*words, "tasks=topk"])[0]
    with pytest.raises(DataError, match=r"topk: (\d+) of \1 examples .* set fewer tasks\.candidates") as caught:
        prepare_examples(exp, prepare_dataset(exp))
    assert "for user 'U" in str(caught.value)
    other = compose([*words, "tasks=ctr"])[0]
    assert prepare_examples(other, prepare_dataset(other)).reused  # the same examples serve another task
