"""CoLLM's pickled split (arXiv 2310.19488): train, valid and test tables with histories of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from ckf.config.schema import CollmConfig
from ckf.core.errors import DataError
from ckf.core.safe_pickle import read_pickled_table
from ckf.data.readers.base import Source

_FILES = {"train": "train_ood2.pkl", "val": "valid_ood2.pkl", "test": "test_ood2.pkl"}
_ITEMS = {"item": pl.String, "title": pl.String}
_COLUMNS = ("uid", "iid", "label", "timestamp", "his", "his_title", "title")


def collm_files(cfg: CollmConfig) -> list[Path]:
    """The three pickles.

    Raises:
        DataError: the folder lacks one.
    """
    found = [Path(cfg.root) / name for name in _FILES.values()]
    if missing := [path.name for path in found if not path.is_file()]:
        raise DataError(
            f"dataset.root: {cfg.root} lacks {', '.join(missing)}; it must hold {', '.join(_FILES.values())}"
        )
    return found


def read_collm(cfg: CollmConfig) -> Source:
    """Read the three tables under their own ids (from 1, so they come out as they are; 0 is padding).

    ``his`` is each row's earlier positives with a leading 0. Titles are ``numpy.str_`` and become
    ``str``, since prompts would otherwise read ``np.str_('...')``.
    """
    parts = []
    titles: dict[int, str | None] = {}
    files = collm_files(cfg)
    for number, (split, path) in enumerate(zip(_FILES, files, strict=True)):
        table = _checked(read_pickled_table(path), path)
        for items, names in zip(table["his"], table["his_title"], strict=True):  # of equal lengths: _checked
            titles.update((int(i), _title(t)) for i, t in zip(items, names, strict=True) if i)
        titles.update((int(i), _title(t)) for i, t in zip(table["iid"], table["title"], strict=True))
        history = pl.Series("history", [[int(i) for i in items if i] for items in table["his"]], pl.List(pl.Int64))
        parts.append(
            pl.DataFrame(
                {
                    "user": pl.Series(table["uid"].to_numpy(np.int64)).cast(pl.String),
                    "item": pl.Series(table["iid"].to_numpy(np.int64)).cast(pl.String),
                    "click": pl.Series(table["label"].to_numpy(np.int8)),
                    "timestamp": pl.Series(table["timestamp"].to_numpy(np.int64)),
                    "history": history.cast(pl.List(pl.String)),
                    "line": pl.int_range(1, len(table) + 1, eager=True),
                }
            ).with_columns(split=pl.lit(split), file=pl.lit(number, dtype=pl.UInt8))
        )
    return Source(
        interactions=pl.concat(parts).lazy(),
        items=pl.LazyFrame({"item": [str(i) for i in titles], "title": list(titles.values())}, schema=_ITEMS),
        files=tuple(files),
        card={
            "source": f"{cfg.name}: processed by CoLLM (arXiv 2310.19488)",
            "licence": cfg.licence,
            "rows_read": {split: part.height for split, part in zip(_FILES, parts, strict=True)},
        },
    )


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path}: column {', '.join(missing)} is missing; it has {', '.join(map(str, table.columns))}")
    for name, low, rule in (("uid", 1, "ids start at 1"), ("iid", 1, "ids start at 1"), ("timestamp", 0, "seconds")):
        values = pd.to_numeric(table[name], errors="coerce")
        bad = np.flatnonzero(~((values >= low) & (values < 2**63) & (values % 1 == 0)).to_numpy())
        if len(bad):
            raise DataError(f"{path}: row {bad[0] + 1}: {name} is {table[name].iloc[bad[0]]}; {rule}")
    uneven = (table["his"].map(_length) != table["his_title"].map(_length)) | (table["his"].map(_length) < 0)
    bad = np.flatnonzero(uneven.to_numpy())
    if len(bad):
        raise DataError(f"{path}: row {bad[0] + 1}: his and his_title must be lists of one length")
    bad = np.flatnonzero(~table["his"].map(_holds_ids).to_numpy(bool))
    if len(bad):
        raise DataError(f"{path}: row {bad[0] + 1}: his holds what is no id (whole numbers from 1, 0 pads)")
    bad = np.flatnonzero(~table["label"].isin((0, 1)).to_numpy())
    if len(bad):
        raise DataError(f"{path}: row {bad[0] + 1}: label is {table['label'].iloc[bad[0]]}; allowed are 0 and 1")
    return table


def _holds_ids(cell: Any) -> bool:
    return all(isinstance(item, (int, np.integer)) and item >= 0 for item in cell)


def _title(value: Any) -> str | None:
    return str(value) if isinstance(value, str) else None


def _length(cell: object) -> int:
    """Length of a list cell, -1 for what is no list."""
    return len(cell) if isinstance(cell, (list, tuple, np.ndarray)) else -1
