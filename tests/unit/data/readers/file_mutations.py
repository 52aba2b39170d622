"""Faults for text files, drawn by a seed: quotes, separators, widths, encodings, ids, numbers, times, truncation."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable

Lines = list[bytes]

IDS = [b"", b" ", b" 7 ", b"nan", b"null", b"1.0", b"07", b"x" * 600, b"\xc3\xa9", b"a b", b"0", b"-1", b"\x00"]
RATINGS = [b"", b"9", b"-1", b"nan", b"inf", b"1e3", b"good", b"4.5", b"5 ", b"\xef\xbc\x95", b"0x3", b"1_0"]
TIMES = [b"", b"-5", b"0", b"1500000000000", b"99999999999999999999999", b"1.5", b"2017-07-14", b"1e9", b"1500000000.0"]
BYTES = [
    b'"', b"'", b"\xe9", b"\xc3\xa9", b"\x00", b"\r", b"\x1b", b"\xef\xbb\xbf", b"\xff\xfe", b"\\", b",", b"\t", b"|",
    b"::", b";",
]  # fmt: skip


def mutate(lines: Lines, separator: bytes, rng: random.Random) -> bytes:
    """One to three faults in a file of these lines (without their ends); the file's bytes."""
    lines = list(lines)
    for _ in range(rng.randint(1, 3)):
        rng.choice(_IN_LINES)(lines, separator, rng)
    data = b"\n".join(lines) + b"\n"
    if rng.random() < 0.25:
        data = rng.choice(_WHOLE)(data, rng)
    return data


def _place(lines: Lines, rng: random.Random) -> int:
    return rng.randrange(len(lines))


def _insert(lines: Lines, rng: random.Random, what: bytes) -> None:
    n = _place(lines, rng)
    at = rng.randint(0, len(lines[n]))
    lines[n] = lines[n][:at] + what + lines[n][at:]


def _quote(lines: Lines, separator: bytes, rng: random.Random) -> None:
    """A quote anywhere, at the start of a field, or two of them some lines apart."""
    n = _place(lines, rng)
    for line in {n, min(len(lines) - 1, n + rng.choice([0, 1, 2, 7, 50]))} if rng.random() < 0.6 else {n}:
        cells = lines[line].split(separator)
        at = rng.randrange(len(cells))
        cells[at] = rng.choice([b'"' + cells[at], cells[at] + b'"', b'"' + cells[at] + b'"'])
        lines[line] = separator.join(cells)


def _separator(lines: Lines, separator: bytes, rng: random.Random) -> None:
    _insert(lines, rng, separator)


def _other_separator(lines: Lines, separator: bytes, rng: random.Random) -> None:
    n = _place(lines, rng)
    lines[n] = lines[n].replace(separator, rng.choice([b",", b"\t", b";", b"|", b"::", b" ", b""]), rng.choice([1, -1]))


def _width(lines: Lines, separator: bytes, rng: random.Random) -> None:
    n = _place(lines, rng)
    cells = lines[n].split(separator)
    at = rng.randrange(len(cells))
    cells[at : at + rng.randint(0, 1)] = [] if rng.random() < 0.5 else [b"x", b"y"]
    lines[n] = separator.join(cells)


def _cell(values: list[bytes], places: tuple[int, ...]) -> Callable[[Lines, bytes, random.Random], None]:
    def change(lines: Lines, separator: bytes, rng: random.Random) -> None:
        n = _place(lines, rng)
        cells = lines[n].split(separator)
        cells[min(rng.choice(places), len(cells) - 1)] = rng.choice(values)
        lines[n] = separator.join(cells)

    return change


def _byte(lines: Lines, separator: bytes, rng: random.Random) -> None:
    _insert(lines, rng, rng.choice(BYTES))


def _flip(lines: Lines, separator: bytes, rng: random.Random) -> None:
    n = _place(lines, rng)
    if lines[n]:
        at = rng.randrange(len(lines[n]))
        lines[n] = lines[n][:at] + bytes([rng.randrange(256)]) + lines[n][at + 1 :]


def _shuffle(lines: Lines, separator: bytes, rng: random.Random) -> None:
    """A line again, away, blank, joined with the next, cut in two, or the first one in the middle."""
    n = _place(lines, rng)
    at = rng.randint(0, len(lines[n]))
    kind = rng.randrange(6)
    if kind == 0:
        lines.insert(n, lines[n])
    elif kind == 1 and len(lines) > 1:
        del lines[n]
    elif kind == 2:
        lines.insert(n, rng.choice([b"", b"\r", b"  ", separator * 3]))
    elif kind == 3 and n + 1 < len(lines):
        lines[n : n + 2] = [lines[n] + lines[n + 1]]
    elif kind == 4:
        lines[n : n + 1] = [lines[n][:at], lines[n][at:]]
    else:
        lines.insert(n, lines[0])


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def _cut_near_the_end(data: bytes, rng: random.Random) -> bytes:
    return data[: -rng.randint(1, 40)]


def _recoded(encoding: str) -> Callable[[bytes, random.Random], bytes]:
    return lambda data, rng: data.decode("utf-8", "replace").encode(encoding, "replace")


def _zipped(data: bytes, rng: random.Random) -> bytes:
    data = gzip.compress(data)
    return data[: -rng.randint(1, 20)] if rng.random() < 0.3 else data


_IN_LINES = [
    _quote, _quote, _quote, _separator, _other_separator, _width, _width, _cell(IDS, (0, 1)), _cell(RATINGS, (2,)),
    _cell(TIMES, (3,)), _byte, _byte, _flip, _shuffle, _shuffle,
]  # fmt: skip
_WHOLE: list[Callable[[bytes, random.Random], bytes]] = [
    _cut, _cut_near_the_end, _cut_near_the_end, _recoded("utf-16"), _recoded("latin-1"), _recoded("utf-8-sig"),
    lambda data, rng: data.replace(b"\n", b"\r\n"), lambda data, rng: data.replace(b"\n", b"\r"), _zipped,
    lambda data, rng: data.rstrip(b"\n"),
]  # fmt: skip
