"""Amazon reviews of three generations: 2014 (McAuley et al.), 2018 (Ni et al.) and 2023 (Hou et al.).

Metadata of 2014 are Python literals, read as data. Only the metadata of items that are left after the
filters are kept; in the 2014 files the other lines are not even parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import AmazonConfig
from ckf.core.errors import DataError
from ckf.data.readers.base import Source
from ckf.data.readers.line_reader import BadRow, raw_lines, read_first_line
from ckf.data.readers.polars_scan import Scanner
from ckf.data.readers.python_literals import parse_literal
from ckf.data.titles import clean_title, decoded, title_table

_OLDEST = 788_918_400  # 1995-01-01: the shop opened in 1995
_ASIN = re.compile(rb"""\s*\{\s*['"]asin['"]\s*:\s*['"]([^'"\\]*)['"]""")
_Row = tuple[str | None, ...]
_TEXT = {"item": pl.String, "title": pl.String, "brand": pl.String, "category": pl.String}


@dataclass(frozen=True)
class Version:
    """Names of files and fields of one generation. A review has ``marks``; ``meta_marks`` are of its metadata."""

    reviews: str
    meta: str
    user: str
    item: str
    rating: str
    text: str
    time: str
    milliseconds: bool
    brand: str
    categories: tuple[str, ...]  # the first that holds a usable one
    marks: frozenset[str]
    meta_marks: frozenset[str]
    citation: str


_OLD = ("reviewerID", "asin", "overall", "reviewText", "unixReviewTime", False, "brand")
VERSIONS = {
    2014: Version(
        "reviews_{}_5.json", "meta_{}.json", *_OLD, ("categories",),
        frozenset({"reviewerID", "helpful"}), frozenset({"imUrl", "salesRank"}),
        "He and McAuley, WWW 2016; McAuley, Targett, Shi and van den Hengel, SIGIR 2015",
    ),
    2018: Version(
        "{}_5.json", "meta_{}.json", *_OLD, ("category", "main_cat"),
        frozenset({"reviewerID", "verified"}), frozenset({"also_buy", "main_cat"}),
        "Ni, Li and McAuley, EMNLP 2019",
    ),
    2023: Version(
        "{}.jsonl", "meta_{}.jsonl",
        "user_id", "parent_asin", "rating", "text", "timestamp", True, "store", ("categories", "main_category"),
        frozenset({"user_id", "parent_asin"}), frozenset({"main_category", "parent_asin"}),
        "Hou, Li, He, Yan, Chen and McAuley, arXiv 2403.03952",
    ),
}  # fmt: skip


def amazon_files(cfg: AmazonConfig) -> list[Path]:
    """Reviews and metadata under their official names.

    Raises:
        DataError: a file is missing (with the version whose files are there), or is of another version.
    """
    version, root = VERSIONS[cfg.version], Path(cfg.root)
    names = [name.format(cfg.category) for name in (version.reviews, version.meta)]
    found = [_either(root, name) for name in names]
    if lacking := [f"{name}.gz" for name, path in zip(names, found, strict=True) if path is None]:
        raise DataError(f"dataset.root: {root} lacks {', '.join(lacking)} (or unpacked){_others(cfg, root)}")
    reviews, meta = (path for path in found if path is not None)
    _refuse_other_version(reviews, cfg.version, of="reviews")
    _refuse_other_version(meta, cfg.version, of="metadata")
    return [reviews, meta]


def _either(root: Path, name: str) -> Path | None:
    return next((root / file for file in (f"{name}.gz", name) if (root / file).is_file()), None)


def _others(cfg: AmazonConfig, root: Path) -> str:
    for year, version in VERSIONS.items():
        if year != cfg.version and (path := _either(root, version.reviews.format(cfg.category))):
            return f"; {path.name} is of dataset.version={year}"
    suffixes = "_5.json", ".jsonl"
    there = sorted(p.name for p in root.glob("*") if any(s in p.name for s in suffixes))[:5] if root.is_dir() else []
    return f"; there are {', '.join(there)}: is dataset.category={cfg.category} right?" if there else ""


def _refuse_other_version(path: Path, expected: int, of: str) -> None:
    """Look at the first line; a line that tells nothing is left to the reader."""
    kind, year = _recognise(read_first_line(path))
    if year is None or (kind, year) == (of, expected):
        return
    if kind != of:
        raise DataError(f"{path}: line 1: holds {kind} (of version {year}), not {of}")
    raise DataError(
        f"{path}: line 1: {kind} of version {year}, but dataset.version is {expected}; set dataset.version={year}"
    )


def _recognise(line: str) -> tuple[str, int | None]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "metadata", 2014 if line.startswith("{'") else None
    keys = set(row) if isinstance(row, dict) else set()
    for year, version in VERSIONS.items():
        if version.marks <= keys:
            return "reviews", year
        if year != 2014 and version.meta_marks <= keys:  # of 2014 they are no JSON
            return "metadata", year
    return "", None


def read_amazon(cfg: AmazonConfig, scanner: Scanner) -> Source:
    """Read reviews lazily; titles for the items that are asked for, with counts of what became of them.

    Raises:
        DataError: missing or wrong files; when items are asked for, more unreadable metadata lines than
            ``max_bad_rows``.
    """
    version = VERSIONS[cfg.version]
    reviews, meta = amazon_files(cfg)
    card: dict[str, Any] = {
        "source": f"Amazon reviews, {cfg.category}, version {cfg.version}",
        "licence": "none stated; research use, with a citation",
        "citation": version.citation,
        "review_texts": "common HTML entities and line breaks are decoded",
    }

    def items(wanted: pl.Series) -> pl.LazyFrame:
        names = set(wanted)
        if cfg.version == 2014:
            rows, faults = _literal_rows(meta, names, cfg.max_bad_rows)
            card["metadata_lines_unreadable"] = len(faults)
            card["metadata_lines_unreadable_at"] = [fault.row for fault in faults]
        else:
            rows = _json_rows(version, meta, names, scanner)
        table, counts = title_table(rows, names)
        card.update(counts)
        table = table.join(rows.select("item").unique(), on="item", how="semi", maintain_order="left")
        # the raw id as a title would hide from the counts that there is none
        return table.lazy().with_columns(title=pl.when(pl.col("title") != pl.col("item")).then("title"))

    def item_ids() -> pl.LazyFrame:
        if cfg.version == 2014:
            return pl.LazyFrame({"item": _literal_ids(meta)}, schema={"item": pl.String})
        return scanner.json_lines(meta, {version.item: pl.String}).select(item=version.item)

    return Source(
        interactions=_reviews(version, reviews, scanner),
        names={"user": version.user, "item": version.item, "rating": version.rating, "timestamp": version.time},
        items=items,
        files=(reviews,),
        item_files=(meta,),
        item_ids=item_ids,
        oldest_timestamp=_OLDEST,
        card=card,
    )


def _reviews(version: Version, path: Path, scanner: Scanner) -> pl.LazyFrame:
    columns = {
        version.user: pl.String,
        version.item: pl.String,
        version.rating: pl.Float64,
        version.text: pl.String,
        version.time: pl.Int64,
    }
    time = pl.col(version.time)
    return scanner.json_lines(path, columns).select(
        "line",
        user=version.user,
        item=version.item,
        rating=version.rating,
        timestamp=time // 1000 if version.milliseconds else time,
        review=decoded(pl.col(version.text)),
    )


def _literal_rows(path: Path, wanted: Collection[str], limit: int) -> tuple[pl.DataFrame, list[BadRow]]:
    """Metadata of 2014. A line whose item is not wanted is passed over by its first key, without parsing."""
    rows, faults = [], []
    for number, data in raw_lines(path):
        if number == 1 and isinstance(data, bytes):
            data = data.removeprefix(b"\xef\xbb\xbf")
        row = data if isinstance(data, BadRow) else _literal_row(path, number, data, wanted)
        if isinstance(row, BadRow):
            faults.append(row)
            if len(faults) > limit:
                raise DataError(f"{row}; dataset.max_bad_rows allows {limit}")
        elif row:
            rows.append(row)
    return pl.DataFrame(rows, schema=_TEXT, orient="row"), faults


def _literal_ids(path: Path) -> list[str]:
    """Ids of the metadata of 2014, of the lines that begin with theirs."""
    heads = (_ASIN.match(data) for _, data in raw_lines(path) if isinstance(data, bytes))
    return [head[1].decode("utf-8", "replace") for head in heads if head]


def _literal_row(
    path: Path, number: int, data: bytes, wanted: Collection[str]
) -> tuple[str | None, ...] | BadRow | None:
    head = _ASIN.match(data)
    if data.isspace() or (head and head[1].decode("utf-8", "replace").strip() not in wanted):
        return None
    try:
        row = parse_literal(data.decode("utf-8").strip())
    except ValueError as error:  # UnicodeDecodeError among them
        return BadRow(path, number, "broken_literal", str(error))
    item = row.get("asin")
    if not isinstance(item, str):
        return BadRow(path, number, "missing_field", f"asin is {item!r:.60}, expected text", column="asin")
    if (item := item.strip()) not in wanted:
        return None
    return item, _text(row.get("title")), _text(row.get("brand")), _last_category(row.get("categories"))


def _json_rows(version: Version, path: Path, wanted: Collection[str], scanner: Scanner) -> pl.DataFrame:
    """Metadata of 2018 and 2023; categories, a list or a text, arrive as JSON text."""
    columns = dict.fromkeys((version.item, "title", version.brand, *version.categories), pl.String)
    known = pl.LazyFrame({version.item: list(wanted)}, schema={version.item: pl.String})
    table = (
        scanner.json_lines(path, columns)
        .with_columns(pl.col(version.item).str.strip_chars())
        .join(known, on=version.item, how="semi")
        .sort("line")
    )
    rows = []
    for row in table.collect(engine="streaming").iter_rows(named=True):
        category = next(filter(None, (_last_category(_from_json(row[key])) for key in version.categories)), None)
        rows.append((row[version.item], row["title"], row[version.brand], category))
    return pl.DataFrame(rows, schema=_TEXT, orient="row")


def _from_json(text: str | None) -> Any:
    if text is None or not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _last_category(value: Any) -> str | None:
    """The most special category: the last usable one of a list, of lists, or the text itself."""
    if isinstance(value, list):
        return next(filter(None, map(_last_category, reversed(value))), None)
    return _category(value) if isinstance(value, str) and len(value) <= 100 else None


_category = lru_cache(maxsize=10_000)(clean_title)  # the same few thousand names on every line
