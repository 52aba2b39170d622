"""Made reviews in the form of Amazon's 2014 dumps, with text lengths as long-tailed as the real ones.

Usage: python make_reviews.py FOLDER ROWS [SEED]; writes reviews_Made_5.json.gz and meta_Made.json.gz.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np

BLOCK = 50_000
MEDIAN_WORDS, SPREAD, MOST_WORDS = 38, 0.95, 3000  # of the log-normal law of review lengths
START, END = 1_000_000_000, 1_406_000_000


def words(draw: np.random.Generator, count: int = 20_000) -> np.ndarray:
    """A vocabulary of pronounceable words."""
    syllables = np.asarray([c + v for c in "bdfgklmnprstvz" for v in "aeiou"])
    parts = draw.integers(1, 4, count)
    return np.asarray(["".join(draw.choice(syllables, n)) for n in parts], dtype=object)


def make(folder: Path, rows: int, seed: int = 0) -> None:
    """Write both files; users and items follow long-tailed laws, in no order of time."""
    draw = np.random.default_rng(seed)
    vocabulary = words(draw)
    users, items = max(50, rows // 12), max(50, rows // 25)
    popularity = 1 / (np.arange(items) + 30.0)
    activity = 1 / (np.arange(users) + 300.0) ** 0.6
    with gzip.open(folder / "reviews_Made_5.json.gz", "wt", compresslevel=4, encoding="utf-8") as out:
        for start in range(0, rows, BLOCK):
            out.write(_block(draw, min(BLOCK, rows - start), vocabulary, activity, popularity))
    with gzip.open(folder / "meta_Made.json.gz", "wt", compresslevel=4, encoding="utf-8") as out:
        for item in range(items):
            title = " ".join(vocabulary[draw.integers(0, len(vocabulary), 4)]).title()
            out.write(f"{{'asin': 'B{item:09d}', 'title': \"{title}\", 'categories': [['Made']]}}\n")


def _block(
    draw: np.random.Generator, rows: int, vocabulary: np.ndarray, activity: np.ndarray, popularity: np.ndarray
) -> str:
    who = draw.choice(len(activity), rows, p=activity / activity.sum())
    what = draw.choice(len(popularity), rows, p=popularity / popularity.sum())
    when = draw.integers(START, END, rows)
    stars = draw.choice([1, 2, 3, 4, 5], rows, p=[0.05, 0.06, 0.1, 0.24, 0.55])
    lengths = np.minimum(draw.lognormal(np.log(MEDIAN_WORDS), SPREAD, rows).astype(int) + 1, MOST_WORDS)
    ends = np.cumsum(lengths)
    # frequent words are frequent: ranks from a squared uniform
    text = vocabulary[(draw.random(int(ends[-1])) ** 2 * len(vocabulary)).astype(int)].tolist()
    lines = []
    columns = (column.tolist() for column in (who, what, when, stars, ends - lengths, ends))
    for u, i, t, s, first, last in zip(*columns, strict=True):
        review = " ".join(text[first:last])
        lines.append(
            f'{{"reviewerID": "A{u:013d}", "asin": "B{i:09d}", "reviewerName": "{text[first]} {text[last - 1]}", '
            f'"helpful": [0, {s}], "reviewText": "{review}.", "overall": {s}.0, "summary": "{review[:40].strip()}", '
            f'"unixReviewTime": {t}, "reviewTime": "01 1, 2013"}}\n'
        )
    return "".join(lines)


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]), *map(int, sys.argv[3:]))
