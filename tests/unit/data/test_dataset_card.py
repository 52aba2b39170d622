"""The dataset card: what a stranger reads of a dataset, word for word."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ckf.config.schema import ColumnsConfig, FilterConfig, SplitConfig, TabularConfig
from ckf.data.prepare import build_dataset

# ruff: noqa: E501
CARD = """\
# Dataset card: csv

- source: own tables (ratings.csv)
- licence: mine

## Warnings

- 3 of 5 items (60.0%) have a title, the others have their raw id; not in the items file: 1, e.g. 'v'
- rows left out because they cannot be used: 1 (dataset.max_bad_rows)

## Rows left after each step

| after | rows | users | items |
| --- | --- | --- | --- |
| read | 13 | 4 | 5 |
| duplicates | 11 | 4 | 5 |
| min_user_count 2 | 10 | 3 | 5 |

Rows that could not be used: 1 of 14 (dataset.max_bad_rows=2).

| kind | rows | first of them |
| --- | --- | --- |
| rating_outside_scale | 1 | FOLDER/ratings.csv: line 15: the rating is 9, outside dataset.rating_scale [1, 5] |

Repeated (user, item) pairs: 1 exact copies and 1 others dropped (dataset.duplicates=first).

## Split: temporal (val_fraction=0.2, test_fraction=0.2)

| split | interactions | users | items | liked share | warm seen | warm 3 | cold users | cold items | first day | last day |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| train | 6 | 2 | 3 | 0.5 | 6 | 0 | 0 | 0 | 2001-09-09 | 2001-09-14 |
| val | 2 | 2 | 1 | 0.5 | 0 | 0 | 1 | 1 | 2001-09-15 | 2001-09-16 |
| test | 2 | 1 | 2 | 0.5 | 0 | 0 | 1 | 1 | 2001-09-17 | 2001-09-17 |

Liked is a rating of 4 or more (dataset.like_threshold); days are in UTC. Warm and cold go by training rows alone: `warm seen` has its user and its item
in train, `warm 3` each at least three times; cold users and items are those that train never saw.

## Size

10 interactions of 3 users with 5 items from 2001-09-09 to 2001-09-17; 33.333% of all pairs are empty.
9 have a review; 2 share their second with another of the same user.

### Ratings

```
  3  ████████████████████████████████████████ 5
4.5  ████████████████████████████████████████ 5
```

### Users by their number of interactions

```
2-3  ████████████████████████████████████████ 2
4-7  ████████████████████ 1
```

### Items by their number of interactions

```
  1  ██████████ 1
2-3  ████████████████████████████████████████ 4
```

### Interactions by the length of their history, before it is cut

```
  0  ██████████████████████████████ 3
  1  ████████████████████████████████████████ 4
2-3  ██████████████████████████████ 3
```

## Titles

- different: 4
- shared by several items: 1
- items that share one: 2
- first shared: The Sea; THE SEA!

## Notes of the reader

- item rows repeated: 0
- titles missing, raw id instead: 2
- titles too long, raw id instead: 0
- titles with white space joined: 0

## Source files (SHA-256)

- `ratings.csv`: SHA-RATINGS
- `items.csv`: SHA-ITEMS
"""
DAY = 86_400
START = 1_000_000_000
PAIRS = ("a,w", "a,x", "b,w", "b,x", "b,y", "a,y", "b,z", "c,z", "c,v", "c,x")
RATINGS = [
    f"{pair},{3 if n % 2 else 4.5},{START + DAY * min(n, 8)},{'' if n == 3 else f'text {n}'}"
    for n, pair in enumerate(PAIRS)
]
RATINGS += [
    RATINGS[0],
    f"b,x,5,{START + DAY * 9},later",
    f"d,w,5,{START + DAY},alone",
    f"d,w,9,{START},bad",
]
ITEMS = "item,title\nw,The Sea\nx,THE SEA!\ny,\nz,Zoo\n"


def test_the_card_says_what_was_done(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user,item,rating,timestamp,review\n" + "\n".join(RATINGS) + "\n")
    (tmp_path / "items.csv").write_text(ITEMS)
    cfg = TabularConfig(
        "csv",
        root=str(tmp_path),
        interactions="ratings.csv",
        items="items.csv",
        columns=ColumnsConfig(review="review"),
        filters=[FilterConfig("min_user_count", 2)],
        max_bad_rows=2,
        licence="mine",
    )
    (out := tmp_path / "out").mkdir()
    build_dataset(cfg, SplitConfig("temporal", val_fraction=0.2, test_fraction=0.2), out)
    expected = CARD.replace("FOLDER", str(tmp_path))
    for name in ("ratings", "items"):
        digest = hashlib.sha256((tmp_path / f"{name}.csv").read_bytes()).hexdigest()
        expected = expected.replace(f"SHA-{name.upper()}", digest)
    assert (out / "card.md").read_text() == expected
