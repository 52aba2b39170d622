"""`cf=pretrained`: tables made elsewhere, put into the dataset's order by raw id."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from ckf.cf.data import CFBatch, CFData
from ckf.cf.leakage_check import write_trained_on
from ckf.cf.vectors.external_files import PADDING, Table, read_ids, read_table
from ckf.config.schema import PretrainedConfig
from ckf.core.artifact_store import file_hash
from ckf.core.errors import DataError, first_line
from ckf.data.interaction_keys import UNKNOWN, raw_ids, row_keys

FILES = ("users", "items", "user_ids", "item_ids", "trained_on")
SHOWN = 3


class PretrainedModel:
    """Given vectors; predicts by dot product where asked, clicks only through a sigmoid, ratings never."""

    history_items = 0

    def __init__(self, cfg: PretrainedConfig, data: CFData, dataset: Path) -> None:
        self.scores = cfg.scores
        self.metadata: dict[str, Any] = {"checkpoint_rule": "none: made elsewhere"}
        tables = {}
        for kind, ids, largest in (
            ("user", data.train.user, data.n_users),
            ("item", data.train.item, data.n_items),
        ):
            path = Path(getattr(cfg, f"{kind}s"))
            table = read_table(path, kind, getattr(cfg, f"{kind}_key"), cfg.id_column)
            if cfg.dim is not None and table.vectors.shape[1] != cfg.dim:
                raise DataError(f"{path}: vectors are {table.vectors.shape[1]} wide, but cf.dim is {cfg.dim}")
            align = _Alignment(cfg, kind, path, raw_ids(dataset, kind), np.unique(ids))
            tables[kind] = align.rows_of(table, largest)
            self.metadata[f"{kind}_alignment"] = align.metadata
        self.users, self.items = tables["user"], tables["item"]
        if self.users.shape[1] != self.items.shape[1]:
            raise DataError(
                f"{cfg.users}: vectors are {self.users.shape[1]} wide, those of {cfg.items} {self.items.shape[1]}; "
                "one width is needed for both"
            )

    def click_probability(self, batch: CFBatch) -> np.ndarray:
        """Sigmoid of the dot product if ``scores=sigmoid``, else NaN. [n]"""
        return expit(self._dot(batch)) if self.scores == "sigmoid" else np.full(len(batch), np.nan)

    def rating(self, batch: CFBatch) -> np.ndarray:
        """NaN: a dot product is on no scale of stars. [n]"""
        return np.full(len(batch), np.nan)

    def rank_score(self, batch: CFBatch) -> np.ndarray:
        """Dot product, or NaN with ``scores=none``. [n]"""
        return self._dot(batch) if self.scores != "none" else np.full(len(batch), np.nan)

    def _dot(self, batch: CFBatch) -> np.ndarray:
        known = batch.within(len(self.users) - 1, len(self.items) - 1)
        return np.einsum("nd,nd->n", self.users[known.user].astype(np.float64), self.items[known.item])

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """User table [n_users + 1, d] and item table [n_items + 1, d]; ids without a row are zero."""
        return self.users, self.items

    def user_vectors(self, batch: CFBatch) -> None:
        """The user table is the same at any time."""
        return


class _Alignment:
    """Which row of a table belongs to which id of the dataset; ``metadata`` counts matched and missing ids."""

    def __init__(self, cfg: PretrainedConfig, kind: str, path: Path, names: np.ndarray, trained: np.ndarray) -> None:
        self.cfg, self.kind, self.path, self.names, self.trained = cfg, kind, path, names, trained
        self.metadata: dict[str, Any] = {"ids": cfg.ids}

    def rows_of(self, table: Table, largest: int) -> np.ndarray:
        """The table in the dataset's order, zeros where it has no row. float32 [largest + 1, d]

        Raises:
            DataError: ids that do not match; the message names the first and how many.
        """
        row = np.full(largest + 1, -1, dtype=np.int64)
        for number, target in self._pairs(table, largest):
            row[target] = number
        missing = self.trained[row[self.trained] < 0]
        if len(missing) == len(self.trained):
            raise DataError(
                f"{self.path}: none of its {len(table.vectors)} rows belongs to a {self.kind} of the training split "
                f"(ids there: {self._names(self.trained)}{self._own})"
            )
        if len(missing) and self.cfg.missing == "refuse":
            raise DataError(
                f"{self.path}: {len(missing)} of {len(self.trained)} {self.kind}s of the training split have no "
                f"vector (raw ids {self._names(missing)}); add them, or take them as cold with cf.missing=cold"
            )
        vectors = np.zeros((largest + 1, table.vectors.shape[1]), dtype=np.float32)
        found = row >= 0
        found[0] = False
        vectors[found] = table.vectors[row[found]]
        self.metadata |= {"rows": len(table.vectors), "used": int(found.sum()), "missing_in_train": len(missing)}
        return vectors

    def _pairs(self, table: Table, largest: int) -> zip[tuple[int, int]]:
        """(row of the table, id of the dataset) for every row that has one."""
        rows = np.arange(len(table.vectors))
        self._own = ""
        if self.cfg.ids == "position":
            if len(rows) != largest + 1:
                raise DataError(
                    f"{self.path}: {len(rows)} rows, but ids=position needs {largest + 1}: padding and {self.kind}s "
                    f"1 to {largest} of the dataset"
                )
            return zip(rows, rows, strict=True)
        ids = rows.astype(str).astype(object) if self.cfg.ids == "raw_position" else self._ids(table)
        self._own = f"; in the file: {', '.join(map(str, ids[:SHOWN]))}" if len(ids) else ""
        wanted = pd.Index(ids).get_indexer(pd.Index(self.names))
        wanted[0] = -1
        wanted[self.names == ""] = -1  # ids that the dataset does not use
        known = np.zeros(len(ids), dtype=bool)
        known[wanted[wanted >= 0]] = True
        unknown = ids[~known & ~np.isin(ids, PADDING)] if self.cfg.ids == "raw" else ids[:0]
        self.metadata |= {"unknown_ids": len(unknown), "first_unknown": [str(x) for x in unknown[:SHOWN]]}
        targets = np.flatnonzero(wanted >= 0)
        return zip(wanted[targets], targets, strict=True)

    def _ids(self, table: Table) -> np.ndarray:
        name = getattr(self.cfg, f"{self.kind}_ids")
        ids, source = (read_ids(Path(name), self.cfg.id_column), name) if name else (table.ids, str(self.path))
        if ids is None:
            raise DataError(
                f"{self.path}: has no ids; give cf.{self.kind}_ids=FILE (raw ids in row order), or set rows by "
                "position with cf.ids=position (ids of the dataset) or cf.ids=raw_position (raw ids)"
            )
        if len(ids) != len(table.vectors):
            raise DataError(f"{self.path}: {len(table.vectors)} vectors for {len(ids)} ids of {source}")
        twice = pd.Index(ids)[pd.Index(ids).duplicated()]
        if len(twice):
            raise DataError(f"{source}: {len(twice)} ids occur twice, the first is '{twice[0]}'")
        return ids

    def _names(self, ids: np.ndarray) -> str:
        shown = ", ".join(str(name) for name in self.names[ids[:SHOWN]])
        return shown + (", ..." if len(ids) > SHOWN else "")


def with_content_hashes(cfg: PretrainedConfig) -> PretrainedConfig:
    """The config with its files named by their content: what an artifact and a run are called after.

    Raises:
        DataError: a file is missing.
    """
    hashes: dict[str, Any] = {}
    for name in FILES:
        path = getattr(cfg, name)
        if path is None:
            continue
        if not Path(path).is_file():
            raise DataError(f"cf.{name}: {path}: no such file")
        hashes[name] = f"sha256:{file_hash(Path(path))}"
    return dataclasses.replace(cfg, **hashes)


def write_given_rows(out: Path, cfg: PretrainedConfig, dataset: Path) -> Any:
    """Write the keys of the rows that the tables were trained on; ``unknown`` when ``cf.trained_on`` is not given.

    The file (parquet or csv) has raw ids as ``user, item`` and, if it has it, ``timestamp``; or is the
    ``trained_on.parquet`` of another CF artifact.

    Raises:
        DataError: unreadable, other columns, or not one row of this dataset in it.
    """
    if cfg.trained_on is None:
        return UNKNOWN
    path = Path(cfg.trained_on)
    given = _read_rows(path)
    columns = ["user", "item", "timestamp"]
    rows = pd.read_parquet(dataset / "interactions.parquet", columns=columns)
    names = raw_ids(dataset, "user"), raw_ids(dataset, "item")
    keys = row_keys(rows["user"].to_numpy(), rows["item"].to_numpy(), rows["timestamp"].to_numpy(), of=names)
    if "key" in given:
        used = np.isin(keys, given["key"].to_numpy())
    else:
        on = [name for name in columns if name in given]
        own = pd.DataFrame({"user": names[0][rows["user"]], "item": names[1][rows["item"]]})
        own["timestamp"] = rows["timestamp"].to_numpy()
        used = _matches(own, given, on)
    if not used.any():
        raise DataError(
            f"{path}: none of its {len(given)} rows is an interaction of this dataset: ids or timestamps are written "
            "otherwise, so leakage cannot be checked"
        )
    return {"given": path.name, "rows_given": len(given), **write_trained_on(out, keys[used])}


def _matches(own: pd.DataFrame, given: pd.DataFrame, on: Sequence[str]) -> np.ndarray:
    text = given[["user", "item"]].astype(str).apply(lambda ids: ids.str.strip())  # as the dataset's own
    if "timestamp" in on:
        text["timestamp"] = given["timestamp"].to_numpy()
    return pd.MultiIndex.from_frame(own[list(on)]).isin(pd.MultiIndex.from_frame(text))


def _read_rows(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".csv":
            table = pd.read_csv(path, dtype={"user": str, "item": str})
        else:
            table = pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file (cf.trained_on)") from None
    except Exception as error:  # each reader has its own
        reason = first_line(error)
        raise DataError(f"{path}: not a readable table of interactions ({reason})") from None
    if "key" not in table and not {"user", "item"} <= set(table.columns):
        raise DataError(
            f"{path}: needs the columns user and item (or key); it has {', '.join(map(str, table.columns))}"
        )
    if not len(table):
        raise DataError(f"{path}: holds no row")
    if "key" not in table and (lacking := table[["user", "item"]].isna().any(axis=1)).any():
        first = int(np.argmax(lacking)) + 1
        raise DataError(f"{path}: row {first} lacks its user or its item ({int(lacking.sum())} such rows)")
    return table
