"""The released code's processed folder: user sequences with titles, ratings and reviews as JSON objects.

``user_sequences_id.json`` {user: [user, item, …]}, ``user_sequences_title.json`` {user: [title, …]},
``user_rating.json`` {user: [rating, …]}, ``user_review.json`` {user: [text, …]}, ``id_2_title.json``
{item: title}, ``cold_user.json`` or ``cold_users.json`` {"cold_users_id": [user, …]}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import ProcessedJsonConfig
from ckf.core.errors import DataError
from ckf.data.readers.base import Source

SEQUENCES, TITLES = "user_sequences_id.json", "user_sequences_title.json"
RATINGS, REVIEWS = "user_rating.json", "user_review.json"
ITEM_TITLES = "id_2_title.json"
COLD_FILES = ("cold_user.json", "cold_users.json")
COLD_KEY = "cold_users_id"
_NEEDED = (SEQUENCES, RATINGS, ITEM_TITLES)
_OPTIONAL = (TITLES, REVIEWS, *COLD_FILES)


def processed_json_files(cfg: ProcessedJsonConfig) -> list[Path]:
    """The files of the folder.

    Raises:
        DataError: one without which there is nothing to read is missing.
    """
    root = Path(cfg.root)
    missing = [name for name in _NEEDED if not (root / name).is_file()]
    if missing:
        raise DataError(f"dataset.root: {root} lacks {', '.join(missing)}; it must hold {', '.join(_NEEDED)}")
    return [root / name for name in (*_NEEDED, *_OPTIONAL) if (root / name).is_file()]


def read_processed_json(cfg: ProcessedJsonConfig) -> Source:
    """Read the folder; the place in a user's sequence (from 1) serves as the timestamp, since the files have none.

    Raises:
        DataError: names the file and the user or item where the layout does not hold.
    """
    files = processed_json_files(cfg)
    root = Path(cfg.root)
    sequences = _sequences(root / SEQUENCES)
    columns: dict[str, list[Any]] = {"user": [], "item": [], "timestamp": []}
    for user, items in sequences.items():
        columns["user"] += [user] * len(items)
        columns["item"] += items
        columns["timestamp"] += range(1, len(items) + 1)
    columns["rating"] = _aligned(root / RATINGS, sequences, _as_rating)
    present = {path.name for path in files}
    columns["review"] = (
        _aligned(root / REVIEWS, sequences, _as_text) if REVIEWS in present else [None] * len(columns["user"])
    )
    schema = {
        "user": pl.String,
        "item": pl.String,
        "timestamp": pl.Int64,
        "rating": pl.Float64,
        "review": pl.String,
    }
    titles, differing = _item_titles(root, sequences, TITLES in present)
    cold = _cold_users(root, [name for name in COLD_FILES if name in present])
    if cold and not cold & set(sequences):
        raise DataError(
            f"{root}: none of the {len(cold)} cold users, e.g. '{min(cold)}', has a sequence in {SEQUENCES}, which has "
            f"e.g. '{next(iter(sequences))}'"
        )
    users = None
    if cold is not None:
        users = pl.LazyFrame(
            {"user": list(sequences), "cold": [user in cold for user in sequences]},
            schema={"user": pl.String, "cold": pl.Boolean},
        )
    return Source(
        interactions=pl.LazyFrame(columns, schema=schema).with_row_index("line", offset=1).cast({"line": pl.Int64}),
        items=pl.LazyFrame(titles, schema={"item": pl.String, "title": pl.String}, orient="row"),
        users=users,
        files=(root / SEQUENCES,),
        item_files=(root / ITEM_TITLES,),
        timed=False,
        card={
            "source": "processed folder of the released CKF code",
            "licence": cfg.licence,
            "time": "the layout has no times: the place in a user's sequence stands for the time",
            "rows_read": len(columns["user"]),
            "cold_users_listed": len(cold) if cold is not None else None,
            "cold_users_without_sequence": len(cold - set(sequences)) if cold is not None else None,
            "titles_that_differ_between_files": differing,
        },
    )


def _load(path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):  # json would keep the last one and say nothing
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise DataError(f"{path}: key '{twice}' stands twice")
        return found

    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not UTF-8 JSON ({type(error).__name__})") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}; an object by user or item is needed")
    return value


def _sequences(path: Path) -> dict[str, list[str]]:
    """User to items, without the user that leads each list."""
    found = {}
    for user, row in _load(path).items():
        if not isinstance(row, list) or not row or _as_id(row[0]) != user:
            raise DataError(f"{path}: user '{user}': must be a list that begins with the user")
        items = [_as_id(item) for item in row[1:]]
        for place, item in enumerate(items, 1):
            if item is None or item == "0":
                raise DataError(
                    f"{path}: user '{user}': entry {place} is {row[place]!r}; an item id is needed (0 pads)"
                )
        found[user] = [item for item in items if item is not None]
    if not any(found.values()):
        raise DataError(f"{path}: no user has an interaction")
    return found


def _as_id(value: Any) -> str | None:
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) and value != "" else None


def _as_rating(value: Any) -> float | None:
    return None if value is None else float(value)


def _as_text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


def _aligned(path: Path, sequences: dict[str, list[str]], read: Any) -> list[Any]:
    """The lists of ``path`` end to end, each as long as the user's sequence."""
    lists = _load(path)
    unknown = next((user for user in lists if user not in sequences), None)
    if unknown is not None:
        raise DataError(f"{path}: user '{unknown}' has no sequence in {SEQUENCES}")
    out: list[Any] = []
    for user, items in sequences.items():
        row = lists.get(user)
        if not isinstance(row, list) or len(row) != len(items):
            got = len(row) if isinstance(row, list) else "none"
            raise DataError(f"{path}: user '{user}': {len(items)} entries are needed, as in {SEQUENCES}; got {got}")
        for place, value in enumerate(row, 1):
            try:
                out.append(read(value))
            except (TypeError, ValueError, OverflowError):
                raise DataError(f"{path}: user '{user}': entry {place} is {value!r:.60}") from None
    return out


def _item_titles(
    root: Path, sequences: dict[str, list[str]], by_user: bool
) -> tuple[list[tuple[str, str | None]], int]:
    """Titles of `ITEM_TITLES`, completed from the sequences of titles; and how often the two differ."""
    titles: dict[str, str | None] = {}
    for item, title in _load(root / ITEM_TITLES).items():
        if title is not None and not isinstance(title, str):
            raise DataError(f"{root / ITEM_TITLES}: item '{item}': the title is {title!r:.60}, not text")
        titles[item] = title
    differing = 0
    for user, row in _load(root / TITLES).items() if by_user else ():
        items = sequences.get(user, [])
        if isinstance(row, list) and len(row) == len(items) + 1:  # with the user in front, as in the ids' file
            row = row[1:]
        if not isinstance(row, list) or len(row) != len(items):
            raise DataError(f"{root / TITLES}: user '{user}': {len(items)} titles are needed, as in {SEQUENCES}")
        for item, title in zip(items, row, strict=True):
            if isinstance(title, str) and not titles.get(item):
                titles[item] = title
            differing += titles.get(item) != title
    return list(titles.items()), differing


def _cold_users(root: Path, names: list[str]) -> set[str] | None:
    """The cold users; None where the folder names none. Both spellings must agree."""
    found: list[set[str]] = []
    for name in names:
        users = _load(root / name).get(COLD_KEY)
        if not isinstance(users, list) or any(_as_id(user) is None for user in users):
            raise DataError(f"{root / name}: '{COLD_KEY}' must be a list of users")
        found.append({str(user) for user in users})
    if len(found) == 2 and found[0] != found[1]:
        raise DataError(f"{root}: {COLD_FILES[0]} and {COLD_FILES[1]} name different users; remove one of them")
    return found[0] if found else None
