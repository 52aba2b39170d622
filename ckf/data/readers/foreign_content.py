"""Files that hold something else than their name says: a web page, an archive, a pointer of git LFS, nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ckf.core.errors import DataError
from ckf.data.readers.line_reader import BROKEN_GZIP, open_bytes

_LOOKED_AT = 2048
_PAGE = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<script", b"<title", b"<error>")
_SIGNATURES = {
    b"PK\x03\x04": "a zip archive (or an Excel file); unpack it, or save the sheet as csv",
    b"Rar!": "a rar archive; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"BZh": "compressed by bzip2; unpack it, or compress it by gzip",
    b"\xfd7zXZ": "compressed by xz; unpack it, or compress it by gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, or compress it by gzip",
    b"%PDF": "a PDF file",
    b"SQLite format 3": "an SQLite database; export its tables as csv",
    b"version https://git-lfs": "a pointer of git LFS, not the data; fetch them with git lfs pull",
}
_PARQUET = b"PAR1"


def refuse_foreign_content(paths: Iterable[Path]) -> None:
    """Look at the beginning of each file.

    Raises:
        DataError: a file is empty, or holds what no reader reads.
    """
    for path in paths:
        try:
            with open_bytes(path) as file:
                start = file.read(_LOOKED_AT)
        except BROKEN_GZIP:  # its reader says where it breaks
            continue
        if not start:
            raise DataError(f"{path}: the file is empty (0 bytes)")
        if kind := next((kind for mark, kind in _SIGNATURES.items() if start.startswith(mark)), None):
            raise DataError(f"{path}: {kind}")
        if start.startswith(_PARQUET) and path.suffix in (".csv", ".tsv", ".txt", ".dat", ".inter", ".item", ".json"):
            raise DataError(f"{path}: a parquet file; dataset=parquet reads it")
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text[:20].lower().startswith(_PAGE):
            shown = " ".join(text.decode("utf-8", "replace").split())[:60]
            raise DataError(f"{path}: line 1: a web page (HTML), not data: '{shown}'; download the file again")
