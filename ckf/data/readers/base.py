"""What every reader returns: one shape for all sources, before checks, filters and splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl


@dataclass
class Source:
    """Interactions and items under their raw ids, lazily: readers name, type and decode, nothing else.

    ``interactions``: ``user`` String, ``item`` String, ``timestamp`` Int64 (seconds; without the column the order
    of the rows is the order in time), and where the source has them ``rating`` Float64, ``click`` Int8 (1 = liked;
    null: rating >= dataset.like_threshold; without both columns every row is a like), ``review`` String,
    ``split`` String (train, val, test), ``history`` List(String) (raw item ids, oldest first), ``line`` Int64
    (record in its file from 1, as the scanner numbers them) and ``file`` UInt16 (index into ``files``, 0 where
    absent). Columns left out count as null.

    ``items``: ``item`` String, ``title`` String, and any further columns, which are kept as they are.
    Repeated items are allowed; the first usable title wins. It may be a function of the raw ids that
    are left after the filters (and may then add counts to ``card``), so that a large metadata file is
    read for those alone. ``item_ids`` then gives all ids of that file (``item`` String), for messages.
    ``titled`` is false where the config says that there are no titles.

    ``users``: optional extra columns by ``user`` String, kept in users.parquet (``cold`` Boolean
    replaces the default of "never seen in training").

    ``files`` and ``item_files``: the files of both, for messages; ``names``: what its files call the columns of
    ``interactions``; ``guesses``: columns and forms that were guessed, a line each. ``card``: source, licence,
    citation, and counts that the reader made (each shown on the dataset card). ``oldest_timestamp``: below it a
    time is taken for one in another unit. ``timed``: whether ``timestamp`` holds times, not an order alone.
    ``known`` (built-in data only): user, item (raw ids), truth, text, counting.
    """

    interactions: pl.LazyFrame
    items: pl.LazyFrame | Callable[[pl.Series], pl.LazyFrame]
    card: dict[str, Any] = field(default_factory=dict)
    known: pl.DataFrame | None = None
    users: pl.LazyFrame | None = None
    files: tuple[Path, ...] = ()
    oldest_timestamp: int = 0
    item_files: tuple[Path, ...] = ()
    item_ids: Callable[[], pl.LazyFrame] | None = None
    titled: bool = True
    timed: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    guesses: tuple[str, ...] = ()
