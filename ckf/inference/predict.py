"""``ckf predict``: score a file of rows part by part; a killed run continues where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ckf.core.artifact_store import file_hash, read_json, write_json
from ckf.core.errors import DataError, first_line
from ckf.inference.dataset_index import UNKNOWN
from ckf.inference.predictor import Predictor
from ckf.inference.request_rows import (
    SHOWN,
    UnusableRow,
    is_own,
    note_prepared,
    read_rows,
    refuse_faults,
    run_key,
    score_requests,
)

PART = 4096
"""Rows that are read, scored and written together; memory does not grow with the file."""


@dataclass
class Counts:
    """Rows of a file: all of them, those that cannot be scored, those of unknown users, those scored before.

    ``unknown``: the first few ids of users that the data does not know.
    """

    rows: int
    bad: int = 0
    cold: int = 0
    resumed: int = 0
    unknown: list[str] = field(default_factory=list)


def predict_file(trained: Predictor, source: Path, out: Path, *, skip_bad: bool = False) -> Counts:
    """Score the rows of a Parquet file into ``out``.

    All rows are checked before the first is scored. Finished parts are kept in the folder of ``out`` until the whole is
    there; they count again only for the same input, run and settings.

    Raises:
        DataError: no Parquet file, no rows, or rows that cannot be scored (left out with ``skip_bad``).
    """
    file = _open(source)
    counts = Counts(file.metadata.num_rows)
    faults: list[UnusableRow] = []
    for first, rows in _parts(file):
        requests, wrong = read_rows(trained, rows, first)
        faults += wrong
        unknown = [request.user for request in requests if request.example.user == UNKNOWN]
        counts.cold += len(unknown)
        counts.unknown = list(dict.fromkeys([*counts.unknown, *unknown]))[:SHOWN]
        note_prepared(trained, [request.example for request in requests if not is_own(request.example)])
    counts.bad = len(faults)
    if not skip_bad:
        refuse_faults(faults, str(source))
    folder = out.with_name(f".{out.name}.parts")
    key = {"input": file_hash(source), "part": PART, "batch_size": trained.exp.evaluate.batch_size, **run_key(trained)}
    if not (folder / "key.json").is_file() or read_json(folder / "key.json") != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / "key.json", key)
    paths = []
    for first, rows in _parts(file):
        path = folder / f"{first:012d}.parquet"
        paths.append(path)
        if path.is_file():
            counts.resumed += len(rows)
            continue
        _score_part(trained, rows, first, path)
    _join(paths, out)
    shutil.rmtree(folder)
    return counts


def _open(source: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(source)
    except FileNotFoundError:
        raise DataError(f"{source}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{source}: no Parquet file ({first_line(error)})") from None
    if not file.metadata.num_rows:
        raise DataError(f"{source}: holds no rows")
    return file


def _parts(file: pq.ParquetFile) -> Iterator[tuple[int, pd.DataFrame]]:
    first = 1
    for batch in file.iter_batches(PART):
        yield first, batch.to_pandas()
        first += batch.num_rows


def _score_part(trained: Predictor, rows: pd.DataFrame, first: int, path: Path) -> None:
    requests, _ = read_rows(trained, rows, first)
    temporary = path.with_suffix(".writing")
    if requests:
        score_requests(trained, requests).to_parquet(temporary, index=False)
        temporary.replace(path)


def _join(paths: list[Path], out: Path) -> None:
    """Write the parts as one file, one part in memory at a time."""
    there = [path for path in paths if path.is_file()]
    if not there:
        raise DataError(f"{out}: no row could be scored")
    temporary = out.with_name(f".{out.name}.writing")
    with pq.ParquetWriter(temporary, pq.read_schema(there[0])) as writer:
        for path in there:
            writer.write_table(pq.read_table(path).cast(writer.schema))
    temporary.replace(out)
