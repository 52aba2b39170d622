"""Reading vectors and their raw ids from the files that other programs write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from ckf.core.errors import DataError, first_line
from ckf.core.safe_torch import read_weights

RECBOLE = {"user": "user_embedding.weight", "item": "item_embedding.weight"}
PADDING = ("", "[PAD]")
"""Ids under which libraries keep the padding row."""


@dataclass(frozen=True)
class Table:
    """Vectors [n, d] of a file and, where it has some, their raw ids [n] as text."""

    vectors: np.ndarray
    ids: np.ndarray | None


def read_table(path: Path, kind: str, key: str | None, id_column: str) -> Table:
    """Read the vectors of ``kind`` (user or item) by the file's format.

    ``key`` names the array of a file with several; the ids of a table are its column (or array) ``id_column``.

    Raises:
        DataError: missing, unreadable, no such array, not a matrix of numbers, or NaN in it.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file (cf.{kind}s)")
    match path.suffix.lower():
        case ".parquet":
            table = _from_parquet(path, key, id_column)
        case ".npy":
            table = Table(_numpy(path), None)
        case ".npz" | ".safetensors":
            arrays = _npz(path) if path.suffix.lower() == ".npz" else _safetensors(path)
            ids = arrays.pop(id_column, None)
            table = Table(_chosen(arrays, path, kind, key), None if ids is None else _text(ids, path))
        case _:
            tensors = {name: value for name, value in read_weights(path).items() if value.dim() == 2}
            tensor = _chosen(tensors, path, kind, key)
            table = Table(tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy(), None)
    vectors = table.vectors
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or 0 in vectors.shape:
        raise DataError(f"{path}: expected a matrix of numbers [rows, dim], got {vectors.dtype} {list(vectors.shape)}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(f"{path}: row {bad[0] + 1} holds NaN or infinity ({len(bad)} such rows of {len(vectors)})")
    return table


def read_ids(path: Path, id_column: str) -> np.ndarray:
    """Read raw ids in row order, as text: lines, a .npy, a JSON list, or a parquet column.

    Raises:
        DataError: missing, unreadable, or an id given twice.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    match path.suffix.lower():
        case ".txt":
            ids = _text(np.asarray(path.read_text(encoding="utf-8-sig").splitlines(), dtype=object), path)
        case ".npy":
            ids = _text(_numpy(path), path)
        case ".json":
            try:
                values = json.loads(path.read_text(encoding="utf-8-sig"))
            except ValueError as error:
                raise DataError(f"{path}: not valid JSON ({error})") from None
            if not isinstance(values, list):
                raise DataError(f"{path}: expected a list of ids in row order, got {type(values).__name__}")
            ids = _text(np.asarray(values, dtype=object), path)
        case _:
            ids = _text(_column(_parquet(path), id_column, path).to_numpy(), path)
    return ids


def _chosen(arrays: dict, path: Path, kind: str, key: str | None):  # type: ignore[no-untyped-def]  # arrays or tensors
    """The array asked for, RecBole's by its name, or the only one there is."""
    names = ", ".join(sorted(arrays)) or "no matrix"
    if key is not None:
        if key not in arrays:
            raise DataError(f"{path}: has no '{key}' (cf.{kind}_key); it holds {names}")
        return arrays[key]
    if RECBOLE[kind] in arrays:
        return arrays[RECBOLE[kind]]
    if len(arrays) != 1:
        raise DataError(f"{path}: holds {names}; name the {kind} vectors with cf.{kind}_key")
    return next(iter(arrays.values()))


def _numpy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable .npy file ({error})") from None


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise DataError(f"{path}: not a readable .npz file ({error})") from None


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="pt") as file:  # torch, since numpy has no bfloat16
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
    except SafetensorError as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from None
    return {name: (t.float() if t.is_floating_point() else t).numpy() for name, t in tensors.items()}


def _parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({first_line(error)})") from None


def _column(table: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DataError(f"{path}: has no column '{name}' (cf.id_column); it has {', '.join(table.column_names)}")
    return table[name]


def _from_parquet(path: Path, key: str | None, id_column: str) -> Table:
    """Vectors as one list column, or as the numeric columns in their order; ids from ``id_column`` if it is there."""
    table = _parquet(path)
    ids = _text(table[id_column].to_numpy(), path) if id_column in table.column_names else None
    rest = [name for name in table.column_names if name != id_column]
    lists = [name for name in rest if pa.types.is_list(table.schema.field(name).type) or _fixed(table, name)]
    if key is not None or lists:
        if key is None and len(lists) > 1:
            raise DataError(
                f"{path}: has the list columns {', '.join(lists)}; name one with cf.user_key or cf.item_key"
            )
        name = key or lists[0]
        if name not in lists:
            raise DataError(f"{path}: has no list column '{name}'; it has {', '.join(table.column_names)}")
        return Table(_stacked(table[name], name, path), ids)
    wrong = [name for name in rest if not _is_number(table.schema.field(name).type)]
    if wrong or not rest:
        raise DataError(f"{path}: column {', '.join(wrong) or '(none)'} is no number; vectors are a list or numbers")
    return Table(np.column_stack([table[name].to_numpy().astype(np.float32) for name in rest]), ids)


def _fixed(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _stacked(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    odd = np.flatnonzero(lengths != lengths[:1])
    if len(odd):
        raise DataError(f"{path}: row {odd[0] + 1}: {name} has {lengths[odd[0]]} numbers, row 1 has {lengths[0]}")
    values = pc.list_flatten(column).to_numpy()
    if values.dtype.kind not in "fiu":
        raise DataError(f"{path}: {name} holds {values.dtype}, expected numbers")
    return values.reshape(len(column), -1).astype(np.float32)


def _text(ids: np.ndarray, path: Path) -> np.ndarray:
    """Ids as text, without white space around them; whole floats, as pandas writes a column with gaps, are no ids."""
    if ids.ndim != 1 or ids.dtype.kind not in "iuUO":
        raise DataError(f"{path}: ids must be one column of whole numbers or text, got {ids.dtype} {list(ids.shape)}")
    return np.asarray([str(value).strip() for value in ids], dtype=object)
