"""Spoiled files of every format: a dataset in which each line is a row or counted with a reason, or one clear line.

The counts are checked against the file itself: its lines are the header, the rows of the dataset, the repeats, the
bad rows, and the lines that records over several lines are longer than one.
"""

from __future__ import annotations

import csv
import gzip
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ckf.core.errors import DataError
from tests.unit.data.readers.file_mutations import mutate
from tests.unit.data.readers.small_sources import FORMATS, ROWS, TITLES, Format, prepared, rows_of, titles_of

CASES = 2000
QUICK = 88


@pytest.mark.parametrize("name", FORMATS)
def test_no_line_is_lost_uncounted(tmp_path, name):
    """A part of the cases, for every run of the tests."""
    run_cases(tmp_path, name, range(QUICK // len(FORMATS)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_no_line_of_two_thousand_files_is_lost_uncounted(tmp_path, name):
    made = run_cases(tmp_path, name, range(1000, 1000 + -(-CASES // len(FORMATS))))
    assert made["dataset"] > 0.3 * made.total(), "too many files are refused whole to test the counts"


def run_cases(tmp_path: Path, name: str, seeds: range) -> Counter[str]:
    made: Counter[str] = Counter()
    for seed in seeds:
        rng = random.Random(f"{name} {seed}")
        root = tmp_path / str(seed)
        root.mkdir()
        made[one_case(root, FORMATS[name], name, rng)] += 1
    return made


def one_case(root: Path, form: Format, name: str, rng: random.Random) -> str:
    """Spoil one of the two files, and prepare; what became of it."""
    (root / "in").mkdir()
    cfg = replace(form.write(root / "in"), max_bad_rows=1000)
    number = int(rng.random() < 0.4)
    path = root / "in" / list(form.files())[number]
    clean = path.read_bytes().split(b"\n")[:-1]
    cut = "\t" if name == "ml100k" and number == 0 else form.separator
    path.write_bytes(mutate(clean, cut.encode(), rng))
    try:
        manifest = prepared(cfg, root / "out")
    except DataError as error:
        refused = str(error)
    else:
        refused = None
    if refused is not None:
        assert refused.strip()
        assert "\n" not in refused
        assert list((root / "out").iterdir()) == []
        return "refused"
    spoiled = unpacked(path.read_bytes()).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if spoiled[-1] == b"":
        spoiled.pop()
    spoiled = [line.removesuffix(b"\r") for line in spoiled]
    context = f"{name}, {root.name}: {manifest['bad_rows']} {manifest['read_with_notes']} {manifest['warnings']}"
    if number == 0:
        check_rows(form, cut, root / "out", manifest, clean, spoiled, context)
    else:
        check_titles(form, root / "out", manifest, clean, spoiled, context)
    return "dataset"


def unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def check_rows(
    form: Format, cut: str, out: Path, manifest: dict[str, Any], clean: list[bytes], spoiled: list[bytes], context: str
) -> None:
    rows = rows_of(out)
    repeats = manifest["duplicates"]["exact_copies_dropped"] + manifest["duplicates"]["other_repeats_dropped"]
    bad = manifest["bad_rows"]["total"]
    beyond = sum(notes["lines_beyond_one_a_record"] for notes in manifest["read_with_notes"].values())
    assert manifest["rows_read"] == manifest["interactions"] + repeats + bad, context
    explained = form.header + manifest["rows_read"] + beyond
    written = [line for line in spoiled if line.strip()]
    assert len(written) <= explained <= len(spoiled), context
    assert sum(kind["count"] for kind in manifest["bad_rows"]["kinds"].values()) == bad
    assert all(kind["first"] for kind in manifest["bad_rows"]["kinds"].values())
    kept = set(spoiled)
    by_line = dict(zip(clean[form.header :], ROWS, strict=True))
    missing = [row for line, row in by_line.items() if line in kept and row not in rows]
    assert len(missing) <= bad + beyond + repeats, f"{context}: lost {missing}"
    invented = rows - set(ROWS)
    assert len(invented) <= len(kept - set(clean)), f"{context}: invented {invented}"
    if form.json or beyond:
        return
    width = len(ROWS[0])
    spelled = {tuple(map(plain, cells[:2])) for cells in cells_of(form, cut, "utf-8", spoiled) if len(cells) == width}
    odd = {row for row in invented if row[:2] not in spelled}
    assert not odd, f"{context}: from lines of another width: {odd}"


def check_titles(
    form: Format, out: Path, manifest: dict[str, Any], clean: list[bytes], spoiled: list[bytes], context: str
) -> None:
    assert rows_of(out) == set(ROWS), context
    assert manifest["rows_read"] == len(ROWS), context
    kept = set(spoiled)
    by_line = dict(zip(clean[form.header :], TITLES, strict=True))
    titles = titles_of(out)
    wrong = {item: titles[item] for line, item in by_line.items() if line in kept and titles[item] != TITLES[item]}
    beyond = sum(notes["lines_beyond_one_a_record"] for notes in manifest["read_with_notes"].values())
    reader = manifest["reader"]
    repeated = reader.get("metadata_rows_repeated", 0) + reader["item_rows_repeated"]
    unreadable = reader.get("metadata_lines_unreadable", 0)
    assert len(wrong) <= manifest["bad_rows"]["total"] + unreadable + beyond + repeated, f"{context}: {wrong}"
    assert all(title == item for item, title in wrong.items()) or repeated, f"{context}: {wrong}"
    if wrong:
        assert manifest["warnings"], context
    if form.json or beyond:
        return
    spelled: dict[str, set[str]] = {}
    width = len(next(iter(cells_of(form, form.separator, form.encoding, clean))))
    for cells in cells_of(form, form.separator, form.encoding, spoiled):
        if len(cells) == width:
            spelled.setdefault(plain(cells[0]), set()).add(plain(cells[1]))
    odd = {item: title for item, title in titles.items() if title not in spelled.get(item, set()) | {item}}
    assert not odd, f"{context}: from lines of another width: {odd}"


def cells_of(form: Format, cut: str, encoding: str, lines: list[bytes]) -> Iterator[list[str]]:
    """The cells of each line by itself. A line of UTF-8 counts as such in any file."""
    for line in lines:
        for name in ("utf-8", encoding):
            try:
                text = line.decode(name)
            except UnicodeDecodeError:
                continue
            yield next(csv.reader([text.replace("\r", " ")], delimiter=cut), []) if form.quoted else text.split(cut)


def plain(text: str) -> str:
    """Text as ids and titles are kept: white space and control characters joined to one space."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\s]+", " ", text).split())
