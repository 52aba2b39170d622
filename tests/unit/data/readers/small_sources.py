"""Small clean folders of every format, to spoil: eight users, thirty items, 120 interactions, one a line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import (
    AmazonConfig,
    ColumnsConfig,
    DatasetConfig,
    MovieLensConfig,
    MovieLensLatestConfig,
    RecboleConfig,
    SplitConfig,
    TabularConfig,
)
from ckf.core.artifact_store import read_json
from ckf.data.prepare import build_dataset

Row = tuple[str, str, int, int]
USERS, ITEMS = 8, 30
TITLES = {f"{n}": f"Café thing {n}" for n in range(1, ITEMS + 1)}


def make_rows() -> list[Row]:
    """User, item, rating and time of each interaction; no pair is there twice."""
    rng = random.Random(0)
    rows = []
    for user in range(1, USERS + 1):
        for place, item in enumerate(rng.sample(range(1, ITEMS + 1), 15)):
            rows.append((str(user), str(item), rng.randint(1, 5), 1_500_000_000 + 1000 * place + user))
    return rows


ROWS = make_rows()


@dataclass(frozen=True)
class Format:
    """The files of a format (interactions first), their text, and the config that reads them.

    ``header``: lines before the first row, by file. ``encoding`` is that of the items. ``key`` is the key of the
    titles' file by which a line is found.
    """

    files: Callable[[], dict[str, str]]
    config: Callable[[str], DatasetConfig]
    separator: str
    quoted: bool = False
    header: bool = True
    encoding: str = "utf-8"
    json: bool = False

    def write(self, folder: Path) -> DatasetConfig:
        """Write the clean files, and return the config that reads them."""
        for number, (name, text) in enumerate(self.files().items()):
            (folder / name).write_bytes(text.encode(self.encoding if number else "utf-8"))
        return self.config(str(folder))


def lines(cells: list[list[Any]], separator: str) -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in cells)


def _delimited(names: tuple[str, str], heads: tuple[list[str], list[str]] | None, separator: str, more: Callable):
    def files() -> dict[str, str]:
        rows = [list(row) for row in ROWS]
        items = [[item, title, *more(item)] for item, title in TITLES.items()]
        if heads is not None:
            rows, items = [heads[0], *rows], [heads[1], *items]
        return {names[0]: lines(rows, separator), names[1]: lines(items, separator)}

    return files


def _csv(root: str, separator: str = ",") -> DatasetConfig:
    return TabularConfig(
        "csv", root=root, interactions="log.csv", items="items.csv", separator=separator, columns=ColumnsConfig()
    )


_HEADS = (["user", "item", "rating", "timestamp"], ["item", "title", "price"])
_LATEST_HEADS = (["userId", "movieId", "rating", "timestamp"], ["movieId", "title", "genres"])
_RECBOLE_HEADS = (
    ["user_id:token", "item_id:token", "rating:float", "timestamp:float"],
    ["item_id:token", "title:token_seq", "class:token_seq"],
)


def _price(item: str) -> list[str]:
    return [f"{item}.5"]


def _genre(item: str) -> list[str]:
    return ["Drama"]


def _flags(item: str) -> list[str]:
    return ["01-Jan-1995", "", "http://x", *("01"[n == 8] for n in range(19))]


def _u_files() -> dict[str, str]:
    items = [[item, title, *_flags(item)] for item, title in TITLES.items()]
    return {"u.data": lines([list(row) for row in ROWS], "\t"), "u.item": lines(items, "|")}


def _amazon(version: int) -> Callable[[], dict[str, str]]:
    def files() -> dict[str, str]:
        if version == 2023:
            names = "X.jsonl", "meta_X.jsonl"
            keys = "user_id", "parent_asin", "rating", "timestamp", "text"
            unit, more, meta = 1000, {"verified_purchase": True}, {"main_category": "Toys", "store": None}
        else:
            names = ("reviews_X_5.json" if version == 2014 else "X_5.json"), "meta_X.json"
            keys = "reviewerID", "asin", "overall", "unixReviewTime", "reviewText"
            unit = 1
            more = {"helpful": [0, 0]} if version == 2014 else {"verified": True}
            meta = {"imUrl": "x", "salesRank": {}} if version == 2014 else {"also_buy": [], "main_cat": "Toys"}
        reviews = [
            {**dict(zip(keys, (user, item, rating, time * unit, "fine"), strict=True)), **more}
            for user, item, rating, time in ROWS
        ]
        key = keys[1]
        items = [{key: item, "title": title, **meta} for item, title in TITLES.items()]
        write = repr if version == 2014 else lambda row: json.dumps(row, ensure_ascii=False)
        return {
            names[0]: "".join(json.dumps(row) + "\n" for row in reviews),
            names[1]: "".join(write(row) + "\n" for row in items),
        }

    return files


def _amazon_config(version: int) -> Callable[[str], DatasetConfig]:
    return lambda root: AmazonConfig("amazon", root=root, category="X", version=version)


FORMATS = {
    "csv": Format(_delimited(("log.csv", "items.csv"), _HEADS, ",", _price), _csv, ",", quoted=True),
    "tsv": Format(
        _delimited(("log.csv", "items.csv"), _HEADS, "\t", _price), lambda root: _csv(root, "\t"), "\t", quoted=True
    ),
    "semicolons": Format(
        _delimited(("log.csv", "items.csv"), _HEADS, ";", _price), lambda root: _csv(root, ";"), ";", quoted=True
    ),
    "recbole": Format(
        _delimited(("x.inter", "x.item"), _RECBOLE_HEADS, "\t", _genre),
        lambda root: RecboleConfig("recbole", root=root, prefix="x"),
        "\t",
    ),
    "ml100k": Format(
        _u_files, lambda root: MovieLensConfig("ml100k", root=root), "|", header=False, encoding="latin-1"
    ),
    "ml1m": Format(
        _delimited(("ratings.dat", "movies.dat"), None, "::", _genre),
        lambda root: MovieLensConfig("ml1m", root=root),
        "::",
        header=False,
        encoding="latin-1",
    ),
    "ml10m": Format(
        _delimited(("ratings.dat", "movies.dat"), None, "::", _genre),
        lambda root: MovieLensConfig("ml10m", root=root),
        "::",
        header=False,
    ),
    "ml_latest": Format(
        _delimited(("ratings.csv", "movies.csv"), _LATEST_HEADS, ",", _genre),
        lambda root: MovieLensLatestConfig("ml_latest", root=root),
        ",",
        quoted=True,
    ),
    **{
        f"amazon{version}": Format(_amazon(version), _amazon_config(version), ",", header=False, json=True)
        for version in (2014, 2018, 2023)
    },
}
DELIMITED = [name for name, one in FORMATS.items() if not one.json]


def prepared(cfg: DatasetConfig, out: Path) -> dict[str, Any]:
    """Build the dataset, and return its manifest."""
    out.mkdir()
    build_dataset(cfg, SplitConfig("temporal", val_fraction=0.2, test_fraction=0.2), out)
    return read_json(out / "manifest.json")


def rows_of(dataset: Path) -> set[Row]:
    """The dataset's rows under raw ids."""
    ids = {
        kind: pl.read_parquet(dataset / f"{kind}s.parquet", columns=[kind, "raw_id"]).rename({"raw_id": f"raw_{kind}"})
        for kind in ("user", "item")
    }
    table = pl.read_parquet(dataset / "interactions.parquet").join(ids["user"], on="user").join(ids["item"], on="item")
    return set(table.select("raw_user", "raw_item", pl.col("rating").cast(pl.Int64), "timestamp").iter_rows())


def titles_of(dataset: Path) -> dict[str, str]:
    """Title of each item by raw id."""
    return dict(pl.read_parquet(dataset / "items.parquet", columns=["raw_id", "title"]).iter_rows())
