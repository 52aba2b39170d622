"""Titles fit for a prompt: entities decoded, scraps of HTML recognised, a placeholder where a title is missing."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import polars as pl

_TAGS = (
    "a|b|br|body|center|div|em|font|form|h[1-6]|head|html|i|iframe|img|input|li|link|meta|ol|p|script|small|span|strong|"
    "style|sub|sup|table|tbody|td|th|tr|u|ul"
)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^>]*)?/?>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_SCRAP = re.compile(rf"\s*<(?:/?(?:{_TAGS})\b|!)|\bgetTime\(\)|\bfunction\s*\(|^\s*var\s", re.IGNORECASE)
_PAGE = re.compile(r"^Visit Amazon's (.+) Page$")
_MAX_CHARS = 1000

REVIEW_ENTITIES = {
    "&#34;": '"', "&#39;": "'", "&quot;": '"', "&apos;": "'", "&lt;": "<", "&gt;": ">", "&nbsp;": " ", "&amp;": "&",
    "<br />": " ", "<br/>": " ", "<br>": " ",
}  # fmt: skip
"""Entities and line breaks to decode in review texts, in one pass so that nothing is decoded twice."""


def decoded(text: pl.Expr) -> pl.Expr:
    """Review text with the common entities and line breaks of HTML decoded."""
    return text.str.replace_many(list(REVIEW_ENTITIES), list(REVIEW_ENTITIES.values()))


def normalize_text(text: str | None) -> str | None:
    """Decode entities, drop inline tags, join white space; None where no letter or digit is left."""
    if not text:
        return None
    if "&" in text:
        text = html.unescape(text)
        if "&" in text:  # scraped pages were escaped twice: &amp;quot;
            text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if not text.isprintable():
        text = "".join(ch if ch.isprintable() else " " for ch in text)
    text = " ".join(text.split())
    return text if any(map(str.isalnum, text)) else None


def clean_title(text: str | None) -> str | None:
    """A usable title, or None: missing, a scrap of a web page, without letters, or a page long."""
    if not text or _SCRAP.match(html.unescape(text) if "&" in text else text) or len(text) > _MAX_CHARS:
        return None
    return normalize_text(text)


def clean_brand(text: str | None) -> str | None:
    """A brand without its page's decoration ("by …", "Visit Amazon's … Page")."""
    text = clean_title(text)
    if text and (page := _PAGE.match(text)):
        return page[1]
    return text.removeprefix("by ") if text else None


def placeholder_title(raw_id: str, brand: str | None, category: str | None) -> tuple[str, str]:
    """What to call an item without a usable title, and which kind of name that is."""
    if brand and category:
        return f"{brand} ({category})", "brand_and_category"
    return (brand, "brand") if brand else (raw_id, "raw_id")


def title_table(items: pl.DataFrame, wanted: Iterable[str]) -> tuple[pl.DataFrame, dict[str, int]]:
    """One row with a title for each wanted item, and how the titles came about.

    ``items``: item, title, brand, category (all String, null where missing), in the file's order; an item
    that occurs twice keeps its first usable title. Returns item, title, brand, categories, sorted by item.
    """
    found: dict[str, tuple[str | None, str | None, str | None]] = {}
    counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
    for item, raw, brand, category in items.select("item", "title", "brand", "category").iter_rows():
        row = clean_title(raw), clean_brand(brand), normalize_text(category)
        known = found.get(item)
        counts["metadata_rows_repeated"] += known is not None
        if known is None or (known[0] is None and row[0] is not None):
            found[item] = row
            counts["titles_with_entities_decoded"] += bool(raw and row[0] and "&" in raw and html.unescape(raw) != raw)
    rows = []
    for item in sorted(wanted):
        counts["items_without_metadata"] += item not in found
        title, brand, category = found.get(item, (None, None, None))
        kind = "usable"
        if title is None:
            title, kind = placeholder_title(item, brand, category)
        counts[f"titles_{kind}" if kind == "usable" else f"titles_replaced_by_{kind}"] += 1
        rows.append((item, title, brand, category))
    schema = {"item": pl.String, "title": pl.String, "brand": pl.String, "categories": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row"), dict(counts)


_COUNTS = (
    "metadata_rows_repeated",
    "items_without_metadata",
    "titles_usable",
    "titles_with_entities_decoded",
    "titles_replaced_by_brand_and_category",
    "titles_replaced_by_brand",
    "titles_replaced_by_raw_id",
)


def read_item_titles(dataset: Path) -> list[str]:
    """Titles of a dataset artifact by item index; index 0 is padding and has the empty title."""
    items = pl.read_parquet(dataset / "items.parquet", columns=["item", "title"])
    titles = [""] * (int(items["item"].max() or 0) + 1)  # type: ignore[arg-type]  # a column of integers
    for item, title in items.iter_rows():
        titles[item] = title
    return titles
