"""Rows without a label are likes, rows without a time are in order, and a threshold that fits nothing is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ckf.config.schema import ColumnsConfig, FilterConfig, RecboleConfig, SplitConfig, TabularConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import DataError
from ckf.data.prepare import build_dataset
from ckf.data.title_join import ABSENT

LAST = SplitConfig("leave_last_out")


def pairs() -> list[tuple[str, str, int]]:
    """Ten users with six items each; the order of rows is not that of ids."""
    return [(f"u{9 - n % 10}", f"i{(n * 7) % 31}", 1_000_000_000 + n) for n in range(60)]


def csv(folder: Path, **more: Any) -> tuple[TabularConfig, list[tuple[str, str, int]]]:
    """A table of views, with the further columns given as functions of the row's number."""
    lines = [",".join(["user", "item", "timestamp", *more])]
    lines += [",".join(map(str, [*row, *(of(n) for of in more.values())])) for n, row in enumerate(pairs())]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    cfg = TabularConfig("csv", root=str(folder), interactions="log.csv", columns=ColumnsConfig(rating=None))
    cfg.supported_tasks = ["topk"]
    return cfg, pairs()


def made(cfg: Any, folder: Path, split: SplitConfig = LAST) -> tuple[pl.DataFrame, dict[str, Any]]:
    out = folder / "out"
    out.mkdir()
    build_dataset(cfg, split, out)
    rows = pl.read_parquet(out / "interactions.parquet")
    for kind in ("user", "item"):
        names = pl.read_parquet(out / f"{kind}s.parquet").select(kind, pl.col("raw_id").alias(f"raw_{kind}"))
        rows = rows.join(names, on=kind, maintain_order="left")
    return rows, read_json(out / "manifest.json")


@pytest.mark.parametrize("kind", ["csv", "parquet", "recbole"])
def test_rows_without_a_label_are_likes_in_every_reader_of_tables(tmp_path, kind):
    cfg, rows = csv(tmp_path)
    table = pl.read_csv(tmp_path / "log.csv")
    if kind == "parquet":
        table.write_parquet(tmp_path / "log.parquet")
        cfg.interactions = "log.parquet"
    if kind == "recbole":
        names = {"user": "user_id:token", "item": "item_id:token", "timestamp": "timestamp:float"}
        table.rename(names).write_csv(tmp_path / "x.inter", separator="\t")
        cfg = RecboleConfig("recbole", root=str(tmp_path), prefix="x", rating_field=None, supported_tasks=["topk"])
    assert not list(cfg.problems())
    found, manifest = made(cfg, tmp_path)
    assert found.height == len(rows)
    assert found["click"].to_list() == [1] * 60
    assert found["rating"].null_count() == 60
    assert manifest["feedback"] == "implicit"
    assert any("implicit feedback: the source has neither" in line for line in manifest["warnings"])
    assert manifest["warnings"][0] in (tmp_path / "out" / "card.md").read_text()


@pytest.mark.parametrize("kind", ["csv", "parquet", "recbole"])
def test_without_times_the_order_of_the_rows_counts_and_is_said(tmp_path, kind):
    cfg, rows = csv(tmp_path)
    table = pl.read_csv(tmp_path / "log.csv").drop("timestamp")
    table.write_csv(tmp_path / "log.csv")
    cfg.columns.timestamp = None
    if kind == "parquet":
        table.write_parquet(tmp_path / "log.parquet")
        cfg.interactions = "log.parquet"
    if kind == "recbole":
        table.rename({"user": "user_id:token", "item": "item_id:token"}).write_csv(tmp_path / "x.inter", separator="\t")
        cfg = RecboleConfig("recbole", root=str(tmp_path), prefix="x", rating_field=None, time_field=None)
    found, manifest = made(cfg, tmp_path)
    ordered = found.sort("timestamp").select("raw_user", "raw_item").rows()
    assert ordered == [(user, item) for user, item, _ in rows]
    assert manifest["times"] == "order"
    assert any("no times: the order" in line for line in manifest["warnings"])
    card = (tmp_path / "out" / "card.md").read_text()
    assert "no times: the order" in card
    assert "1970" not in card
    last = {user: item for user, item, _ in rows}
    test = found.filter(pl.col("split") == "test")
    assert dict(test.select("raw_user", "raw_item").iter_rows()) == last


@pytest.mark.parametrize(
    ("split", "filters", "said"),
    [
        (SplitConfig("temporal"), [], "split=temporal needs times"),
        (LAST, [FilterConfig("since", "2001-01-01")], "the filter 'since' needs times"),
        (LAST, [FilterConfig("until", "2001-01-01")], "the filter 'until' needs times"),
    ],
)
def test_what_needs_times_is_refused_by_name(tmp_path, split, filters, said):
    cfg, _ = csv(tmp_path)
    cfg.columns.timestamp, cfg.filters = None, filters
    assert [p for p in cfg.problems() if filters] == [p for p in cfg.problems() if "no times" in str(p)]
    with pytest.raises(DataError, match=said):
        made(cfg, tmp_path, split)


def test_a_column_of_ones_is_implicit_feedback(tmp_path):
    cfg, _ = csv(tmp_path, click=lambda n: 1)
    cfg.columns.click = "click"
    assert made(cfg, tmp_path)[1]["feedback"] == "implicit"


@pytest.mark.parametrize(
    ("stars", "threshold", "scale", "said"),
    [
        (lambda n: 4 + n % 2, 4, [1, 5], "=4 makes all 60 ratings likes, which go from 4 to 5; e.g. 5 makes 50%"),
        (lambda n: n % 4, 4, [0, 5], "=4 makes none of 60 ratings a like, which go from 0 to 3; e.g. 2 makes 50%"),
        (lambda n: 10 * (n % 3) + 5, 4, [1, 100], "all 60 ratings likes, which go from 5 to 25; e.g. 15 makes 67%"),
        (lambda n: 1, 1, [0, 1], "makes all 60 ratings likes: every rating is 1, which tells nothing apart; views or"),
    ],
)  # fmt: skip
def test_a_threshold_that_fits_no_rating_or_all_is_said_with_a_better_one(tmp_path, stars, threshold, scale, said):
    cfg, _ = csv(tmp_path, rating=stars)
    cfg.columns.rating, cfg.like_threshold, cfg.rating_scale = "rating", threshold, scale
    manifest = made(cfg, tmp_path)[1]
    assert manifest["feedback"] == "explicit"
    assert said in manifest["like_fault"]
    assert manifest["like_fault"] in manifest["warnings"]


def test_clicks_that_are_all_zero_are_said(tmp_path):
    cfg, _ = csv(tmp_path, click=lambda n: 0)
    cfg.columns.click = "click"
    assert "no row of 60 is a like: every click is 0" in made(cfg, tmp_path)[1]["like_fault"]


def test_likes_and_dislikes_are_no_reason_for_a_warning(tmp_path):
    cfg, _ = csv(tmp_path, click=lambda n: n % 2)
    cfg.columns.click = "click"
    manifest = made(cfg, tmp_path)[1]
    assert (manifest["feedback"], manifest["times"], manifest["warnings"]) == ("explicit", "seconds", [ABSENT])


@pytest.mark.parametrize("threshold", [1, 0.5, 5.5, 40])
def test_a_threshold_outside_the_scale_is_refused(threshold):
    cfg = TabularConfig("csv", root="x", interactions="y", like_threshold=threshold)
    (line,) = [str(p) for p in cfg.problems()]
    assert line.startswith(f"like_threshold: {threshold:g} makes ")
    cfg.columns.click = "click"
    assert not list(cfg.problems()), "clicks need no threshold"


def test_tasks_of_both_classes_are_refused_for_rows_without_labels():
    cfg = TabularConfig("csv", root="x", interactions="y", columns=ColumnsConfig(rating=None))
    cfg.supported_tasks = ["ctr", "rating", "topk"]
    (line,) = [str(p) for p in cfg.problems()]
    assert line.startswith("supported_tasks: ctr, rating cannot be served: no column holds a rating or a click")
