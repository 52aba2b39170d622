"""Quotes, widths, byte order marks and encodings in every delimited format: read right, named, or both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ckf.core.errors import DataError
from tests.unit.data.readers.small_sources import DELIMITED, FORMATS, ROWS, TITLES, prepared, rows_of, titles_of

QUOTED = [name for name in DELIMITED if FORMATS[name].quoted]
HEADERLESS = [name for name in DELIMITED if not FORMATS[name].header]
LATIN = [name for name in DELIMITED if FORMATS[name].encoding == "latin-1"]


def spoil(path: Path, line: int, old: str, new: str, encoding: str = "utf-8") -> None:
    """Replace text in one line, counted from 1."""
    text = path.read_bytes().decode(encoding).split("\n")
    assert old in text[line - 1], text[line - 1]
    text[line - 1] = text[line - 1].replace(old, new, 1)
    path.write_bytes("\n".join(text).encode(encoding))


def folder(tmp_path: Path, name: str) -> tuple[Any, ...]:
    """A clean folder of the format: config, interactions file, items file."""
    root = tmp_path / "in"
    root.mkdir()
    cfg = FORMATS[name].write(root)
    return cfg, *(root / file for file in FORMATS[name].files())


@pytest.mark.parametrize("name", FORMATS)
def test_a_clean_folder_is_read_whole(tmp_path, name):
    cfg, *_ = folder(tmp_path, name)
    manifest = prepared(cfg, tmp_path / "out")
    assert rows_of(tmp_path / "out") == set(ROWS)
    assert titles_of(tmp_path / "out").items() <= TITLES.items()
    assert manifest["bad_rows"]["total"] == 0
    assert manifest["read_with_notes"] == {}


# --- quotes


@pytest.mark.parametrize("name", QUOTED)
@pytest.mark.parametrize("file", [0, 1])
@pytest.mark.parametrize("closes", [23, None])
def test_a_stray_quote_costs_its_own_line_and_not_the_rows_behind_it(tmp_path, name, file, closes):
    """It opens in line 9, and closes in line 23 or never; the rows between are kept."""
    cfg, *files = folder(tmp_path, name)
    cut = FORMATS[name].separator
    spoil(files[file], 9, cut, f'{cut}"')
    if closes is not None:
        spoil(files[file], closes, cut if file == 0 else "thing", '"' + (cut if file == 0 else "thing"))
    with pytest.raises(DataError) as caught:
        prepared(cfg, tmp_path / "strict")
    ends = "is never closed" if closes is None else f"closes in line {closes}; lines in it look like rows of their own"
    assert f"{files[file]}: line 9: a quote opens here and {ends}" in str(caught.value).replace("ends in", "closes in")
    manifest = prepared(replace(cfg, max_bad_rows=2), tmp_path / "out")
    lost = [line for line in (9, closes) if line is not None]
    assert manifest["bad_rows"]["total"] == len(lost)
    if file == 0:
        assert rows_of(tmp_path / "out") == {row for n, row in enumerate(ROWS, 2) if n not in lost}
        assert manifest["rows_read"] == len(ROWS)
    else:
        titles = titles_of(tmp_path / "out")
        assert [item for item, title in titles.items() if title != TITLES[item]] == [str(n - 1) for n in lost]


@pytest.mark.parametrize("name", QUOTED)
def test_a_title_over_two_lines_is_read_and_counted(tmp_path, name):
    cfg, _, items = folder(tmp_path, name)
    cut = FORMATS[name].separator
    spoil(items, 9, f"Café thing 8{cut}", f'"Café\nthing {cut} ""8"""{cut}')
    manifest = prepared(cfg, tmp_path / "out")
    assert titles_of(tmp_path / "out")["8"] == f'Café thing {cut.strip()} "8"'.replace("  ", " ")
    notes = manifest["read_with_notes"][items.name]
    assert notes["records_over_several_lines"] == {"count": 1, "first": ["9-10"]}
    assert notes["lines_beyond_one_a_record"] == 1
    assert "records over several lines: 1, 1 lines longer than one each" in " ".join(manifest["warnings"])


@pytest.mark.parametrize(
    ("title", "read"),
    [
        ('5" single', '5" single'),  # kept, counted
        ('"The ""Best"" of, all"', 'The "Best" of, all'),
        ('"Weird Al" Yankovic', None),  # text after a closing quote
        ('"Weird', None),
        ('Weird"', 'Weird"'),
    ],
)
def test_quotes_in_titles(tmp_path, title, read):
    cfg, _, items = folder(tmp_path, "csv")
    spoil(items, 9, "Café thing 8", title)
    if read is None:
        with pytest.raises(DataError, match=r"items.csv: line 9: (text after a closing quote|a quote opens here)"):
            prepared(cfg, tmp_path / "out")
        return
    manifest = prepared(cfg, tmp_path / "out")
    assert titles_of(tmp_path / "out")["8"] == read
    assert titles_of(tmp_path / "out")["9"] == TITLES["9"]
    kept = manifest["read_with_notes"].get("items.csv", {})
    assert ("lines_with_a_quote_inside_an_unquoted_field" in kept) == (not title.startswith('"'))


def test_a_quote_in_a_format_without_quotes_is_a_letter(tmp_path):
    for name in set(DELIMITED) - set(QUOTED):
        (tmp_path / name).mkdir()
        cfg, _, items = folder(tmp_path / name, name)
        spoil(items, 9, "Café", '"Café', FORMATS[name].encoding)
        prepared(cfg, tmp_path / name / "out")
        titles = list(titles_of(tmp_path / name / "out").values())
        assert sum('"Café' in title for title in titles) == 1
        assert len(titles) == 30


# --- widths


@pytest.mark.parametrize("name", DELIMITED)
@pytest.mark.parametrize("file", [0, 1])
@pytest.mark.parametrize("more", [1, -1])
def test_a_line_of_another_width_is_named(tmp_path, name, file, more):
    """Also where the column too many, or missing, is one that is not read."""
    cfg, *files = folder(tmp_path, name)
    encoding = FORMATS[name].encoding if file else "utf-8"
    lines = files[file].read_bytes().decode(encoding).split("\n")
    cut = "\t" if name == "ml100k" and file == 0 else FORMATS[name].separator
    width = lines[7].count(cut) + 1
    lines[7] = lines[7] + f"{cut}x" if more > 0 else lines[7].rpartition(cut)[0]
    files[file].write_bytes("\n".join(lines).encode(encoding))
    with pytest.raises(DataError) as caught:
        prepared(cfg, tmp_path / "strict")
    assert f"{files[file]}: line 8: {width + more} fields, expected {width}" in str(caught.value)
    manifest = prepared(replace(cfg, max_bad_rows=1), tmp_path / "out")
    assert manifest["bad_rows"]["kinds"]["wrong_number_of_fields"]["count"] == 1
    assert manifest["rows_read"] == len(ROWS)
    titles = titles_of(tmp_path / "out")
    assert sum(title != TITLES[item] for item, title in titles.items()) == file


@pytest.mark.parametrize("name", DELIMITED)
def test_a_separator_within_a_title_does_not_cut_it(tmp_path, name):
    cfg, _, items = folder(tmp_path, name)
    spoil(items, 9, "thing", f"thing{FORMATS[name].separator}bad and", FORMATS[name].encoding)
    with pytest.raises(DataError, match=r"line 9: \d+ fields, expected \d+"):
        prepared(cfg, tmp_path / "out")


# --- byte order marks and encodings


@pytest.mark.parametrize("name", FORMATS)
def test_a_byte_order_mark_is_no_letter(tmp_path, name):
    cfg, *files = folder(tmp_path, name)
    for path in files:
        text = path.read_bytes().decode(FORMATS[name].encoding)
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    prepared(cfg, tmp_path / "out")
    assert rows_of(tmp_path / "out") == set(ROWS)
    assert titles_of(tmp_path / "out").items() <= TITLES.items()


@pytest.mark.parametrize("name", HEADERLESS)
def test_a_byte_order_mark_between_joined_files_is_named(tmp_path, name):
    cfg, rows, _ = folder(tmp_path, name)
    lines = rows.read_bytes().split(b"\n")
    lines[8] = b"\xef\xbb\xbf" + lines[8]
    rows.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=r"line 9: the user id '.ufeff.*' holds a byte order mark; were two files join"):
        prepared(cfg, tmp_path / "out")


@pytest.mark.parametrize("name", LATIN)
def test_utf8_under_a_latin_1_reader_is_recognised_and_said(tmp_path, name):
    cfg, _, items = folder(tmp_path, name)
    items.write_bytes(items.read_bytes().decode("latin-1").encode())
    manifest = prepared(cfg, tmp_path / "out")
    assert titles_of(tmp_path / "out").items() <= TITLES.items()
    assert f"{items.name}: read as UTF-8, which it is, and not as latin-1" in manifest["warnings"]


def test_utf8_under_an_encoding_of_ones_own_is_recognised(tmp_path):
    cfg, *_ = folder(tmp_path, "csv")
    manifest = prepared(replace(cfg, encoding="cp1252"), tmp_path / "out")
    assert titles_of(tmp_path / "out").items() <= TITLES.items()
    assert list(manifest["read_with_notes"]) == ["items.csv"]


@pytest.mark.parametrize("name", LATIN)
def test_lines_of_utf8_among_latin_1_are_said(tmp_path, name):
    cfg, _, items = folder(tmp_path, name)
    lines = items.read_bytes().split(b"\n")
    lines[4] = lines[4].decode("latin-1").encode()
    items.write_bytes(b"\n".join(lines))
    manifest = prepared(cfg, tmp_path / "out")
    assert any("lines that look like UTF-8 among others" in line for line in manifest["warnings"])


@pytest.mark.parametrize("name", [name for name in DELIMITED if name not in LATIN])
def test_latin_1_under_a_utf8_reader_is_named_with_its_line(tmp_path, name):
    cfg, _, items = folder(tmp_path, name)
    items.write_bytes(items.read_bytes().decode().encode("latin-1"))
    with pytest.raises(DataError) as caught:
        prepared(cfg, tmp_path / "out")
    first = 2 if FORMATS[name].header else 1
    assert f"{items.name}: line {first}: not utf8 text (byte 0xe9); " in str(caught.value)
    remedy = "set dataset.encoding, e.g. latin-1" if name in ("csv", "tsv", "semicolons") else "convert the file"
    assert remedy in str(caught.value)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
def test_tables_of_another_encoding(tmp_path, encoding):
    cfg, *files = folder(tmp_path, "csv")
    for path in files:
        path.write_bytes(path.read_bytes().decode().encode(encoding))
    prepared(replace(cfg, encoding=encoding), tmp_path / "out")
    assert rows_of(tmp_path / "out") == set(ROWS)
    assert titles_of(tmp_path / "out").items() <= TITLES.items()
    spoil(files[0], 9, ",", ",x,", encoding)
    with pytest.raises(DataError, match="line 9: 5 fields, expected 4"):
        prepared(replace(cfg, encoding=encoding), tmp_path / "again")


def test_utf_16_under_utf8_names_the_key(tmp_path):
    cfg, *files = folder(tmp_path, "csv")
    files[0].write_bytes(files[0].read_bytes().decode().encode("utf-16"))
    with pytest.raises(DataError, match=r"log.csv: line 1: not utf8 text .*; set dataset.encoding, e.g. utf-16"):
        prepared(cfg, tmp_path / "out")
    assert "is no text encoding" in str(*replace(cfg, encoding="utf9").problems())
