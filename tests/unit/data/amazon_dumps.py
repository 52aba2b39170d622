"""Made dumps of Amazon's three generations, and what reads them."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ckf.config.schema import AmazonConfig, SplitConfig
from ckf.core.artifact_store import read_json
from ckf.data.prepare import build_dataset
from ckf.data.readers.amazon import read_amazon
from ckf.data.readers.base import Source
from ckf.data.readers.polars_scan import Scanner


def config(root: Path, version: int, **more: Any) -> AmazonConfig:
    return AmazonConfig(name="amazon", root=str(root), category="Toys", version=version, **more)


def review(version: int, user: str, item: str, rating: float, time: int, text: str | None = "fine") -> dict[str, Any]:
    if version == 2023:
        row = {"rating": rating, "title": "t", "images": [], "asin": f"{item}x", "parent_asin": item, "user_id": user}
        return {**row, "timestamp": time * 1000, "text": text, "helpful_vote": 0, "verified_purchase": True}
    row = {"reviewerID": user, "asin": item, "reviewerName": "N", "overall": rating, "unixReviewTime": time}
    row |= {"summary": "s", "reviewTime": "01 1, 2014"} | ({} if text is None else {"reviewText": text})
    return {**row, "helpful": [0, 0]} if version == 2014 else {**row, "verified": True, "vote": "1,234", "image": ["u"]}


NAMES = {
    2014: ("reviews_Toys_5.json.gz", "meta_Toys.json.gz"),
    2018: ("Toys_5.json.gz", "meta_Toys.json.gz"),
    2023: ("Toys.jsonl.gz", "meta_Toys.jsonl.gz"),
}


def zipped(path: Path, lines: list[Any], literal: bool = False) -> None:
    text = "".join((x if isinstance(x, str) else repr(x) if literal else json.dumps(x)) + "\n" for x in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write(root: Path, version: int, reviews: list[Any], meta: list[Any]) -> None:
    names = NAMES[version]
    zipped(root / names[0], reviews)
    zipped(root / names[1], meta, literal=version == 2014)


def read(root: Path, version: int, scratch: Path, **more: Any) -> Source:
    """The source with its items read for all items of the reviews, as the pipeline does for those left."""
    return with_items(read_amazon(config(root, version, **more), Scanner(scratch)))


def with_items(source: Source) -> Source:
    assert callable(source.items)
    return replace(source, items=source.items(source.interactions.select("item").unique().collect()["item"]))


META = {
    2014: [{"asin": "I1", "title": "It's &amp; new", "categories": [["Toys", "Cars"]], "price": 1.5}],
    2018: [
        {"asin": "I1", "title": "It's &amp; new", "brand": "B", "category": ["Toys", "Cars"], "rank": ["1 in Toys"],
         "main_cat": "Toys", "also_buy": [], "imageURL": ["u"], "details": {"a": 1}},
    ],
    2023: [
        {"parent_asin": "I1", "title": "It's &amp; new", "store": "B", "categories": ["Toys", "Cars"],
         "main_category": "Toys", "average_rating": 4.5, "price": None},
    ],
}  # fmt: skip


def reviews_of(version: int) -> list[Any]:
    return [review(version, f"U{k % 4}", f"I{k % 5}", k % 5 + 1, 1400000000 + k, f"words {k}") for k in range(20)]


def build(root: Path, version: int, reviews: list[Any], meta: list[Any], **more: Any) -> dict[str, Any]:
    write(root, version, reviews, meta)
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    build_dataset(config(root, version, **more), SplitConfig(name="temporal"), out)
    return read_json(out / "manifest.json")
