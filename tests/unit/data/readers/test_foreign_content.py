"""Files that hold something else than data, in every format: one line says what."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ckf.core.errors import DataError
from tests.unit.data.readers.small_sources import DELIMITED, FORMATS, prepared

PAGES = {
    "page": b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n",
    "page of a shop": b"\xef\xbb\xbf  \n<html lang='en'>\n",
    "error of a store": b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
    "zipped page": gzip.compress(b"<html>\n"),
}


def refusal(tmp_path: Path, name: str, file: int, data: bytes) -> str:
    root = tmp_path / "in"
    root.mkdir()
    cfg = FORMATS[name].write(root)
    path = root / list(FORMATS[name].files())[file]
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        prepared(cfg, tmp_path / "out")
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("file", [0, 1])
@pytest.mark.parametrize("kind", PAGES)
def test_a_web_page_is_named(tmp_path, name, file, kind):
    assert "line 1: a web page (HTML), not data: '<" in refusal(tmp_path, name, file, PAGES[kind])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("file", [0, 1])
@pytest.mark.parametrize("data", [b"", gzip.compress(b"", mtime=0)], ids=["empty", "empty gzip"])
def test_an_empty_file_is_named(tmp_path, name, file, data):
    assert "the file is empty" in refusal(tmp_path, name, file, data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"PK\x03\x04rest", "a zip archive (or an Excel file); unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of git LFS, not the data"),
        (b"PAR1....", "a parquet file; dataset=parquet reads it"),
        (b"BZh91AY", "compressed by bzip2"),
        (b"\x28\xb5\x2f\xfd..", "compressed by zstd"),
    ],
)
def test_other_content_is_named(tmp_path, data, text):
    assert text in refusal(tmp_path, "csv", 0, data)


@pytest.mark.parametrize("name", DELIMITED)
def test_a_header_alone_or_blank_lines_alone(tmp_path, name):
    header = next(iter(FORMATS[name].files().values())).split("\n")[0] if FORMATS[name].header else ""
    text = refusal(tmp_path, name, 0, f"{header}\n\n\n".encode())
    assert "no row of data" in text or "the file is empty" in text
    assert ("a header alone" in text) == FORMATS[name].header


@pytest.mark.parametrize(
    ("name", "separator", "text"),
    [
        ("csv", ";", "has user;item;rating;timestamp; it looks separated by semicolons; set dataset.separator=';'"),
        ("csv", "\t", r"it looks separated by tabs; set dataset.separator='\t'"),
        ("csv", "::", "it looks separated by ::; set dataset.separator='::'"),
        ("tsv", ",", "it looks separated by commas; set dataset.separator=','"),
        ("recbole", ",", "line 1: no tab in the header 'user_id:token,item_id:token,rating:float,timestamp:float'"),
        ("recbole", " ", "RecBole's fields are separated by tab"),
        ("ml_latest", ";", "it looks separated by semicolons"),
        ("ml1m", "\t", "line 1: 1 fields, expected 4"),
        ("ml100k", "|", "line 1: 1 fields, expected 4"),
    ],
)  # fmt: skip
def test_a_wrong_separator_is_named(tmp_path, name, separator, text):
    own = "\t" if name == "ml100k" else FORMATS[name].separator
    data = next(iter(FORMATS[name].files().values())).replace(own, separator)
    assert text in refusal(tmp_path, name, 0, data.encode())
