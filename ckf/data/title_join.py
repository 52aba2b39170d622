"""How many items found their title: ids of the items file against those of the interactions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from ckf.core.errors import DataError
from ckf.data.ingest import LoadedInteractions

ABSENT = "no titles are given: a language model reads the raw item ids"
"""Warning of a dataset whose config says that there are no titles."""
_FORM = pl.col("item").str.to_lowercase().str.replace(r"\.0+$", "").str.replace_all(r"[^\p{L}\p{N}]+", "")
_ALIKE = _FORM.str.strip_chars_start("0")
"""An id without case, punctuation, leading zeros and a decimal part of zero."""


@dataclass(frozen=True)
class TitleJoin:
    """Counts of a dataset's items: all, those with a row in the items file, those with a usable title.

    ``item``: an item without a row, and ``other``: an id of the items file that no interaction has. ``alike``: items
    without a row that would have one if case, punctuation, leading zeros and ".0" did not count; ``item`` and
    ``other`` are then such a pair.
    """

    items: int
    joined: int
    titled: int
    item: str | None = None
    other: str | None = None
    alike: int = 0

    def to_json(self) -> dict[str, Any]:
        """What the manifest keeps."""
        return asdict(self)

    def text(self) -> str:
        """One line: how many items have a title, and an id from each side where some have none."""
        share = f"{self.titled / self.items:.1%}" if self.items else "none"
        line = f"{self.titled:,} of {self.items:,} items ({share}) have a title, the others have their raw id"
        if self.item is None:
            return line
        line += f"; not in the items file: {self.items - self.joined:,}, e.g. '{self.item}'"
        line += f"; in the items file alone: e.g. '{self.other}'" if self.other is not None else ""
        if self.alike:
            line += f"; {self.alike:,} of them differ from one there only in case, punctuation, leading zeros or '.0'"
        return line


def measure_titles(data: LoadedInteractions, items: pl.Series, joined: pl.Series, titled: int) -> TitleJoin:
    """Measure the join of all ``items`` (raw ids), of which ``joined`` were found and ``titled`` have a title.

    Raises:
        DataError: no item has a title, though the source should have some.
    """
    missing = items.filter(~items.is_in(joined.implode())).rename("item")
    found = TitleJoin(len(items), len(items) - len(missing), titled)
    if len(missing):
        found = _with_ids(found, missing, data.other_item_ids(items))
    if not titled and data.source.titled:
        where = ", ".join(path.name for path in data.source.item_files) or "the items file"
        raise DataError(f"{where}: {found.text()}; {_REMEDY}")
    return found


_REMEDY = (
    "give the items file of these interactions with their ids, or say that there are no titles "
    "(dataset.items=null of own tables, dataset.title_field=null of RecBole)"
)


def _with_ids(found: TitleJoin, missing: pl.Series, others: pl.Series) -> TitleJoin:
    left = missing.to_frame().with_columns(alike=_ALIKE).filter(pl.col("alike") != "")
    right = others.rename("item").to_frame().with_columns(alike=_ALIKE).unique("alike", keep="first")
    pairs = left.join(right, on="alike", maintain_order="left")
    if pairs.height:
        item, other = pairs["item"][0], pairs["item_right"][0]
    else:
        item, other = missing[0], others[0] if len(others) else None
    return TitleJoin(found.items, found.joined, found.titled, item, other, pairs.height)
