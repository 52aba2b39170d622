"""Which column is meant: the named one, the same in other letters, or the one with a usual name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ckf.core.errors import DataError

USUAL = {
    "user": ("user", "userid", "uid", "reviewerid", "customerid", "memberid", "visitorid", "accountid"),
    "item": (
        "item", "itemid", "iid", "movieid", "productid", "businessid", "asin", "parentasin", "bookid", "isbn", "sku",
        "appid", "gameid", "trackid", "songid", "artistid", "videoid", "articleid", "newsid", "venueid",
    ),
    "rating": ("rating", "ratings", "stars", "score", "overall", "bookrating", "userrating", "ratingvalue"),
    "timestamp": ("timestamp", "time", "date", "datetime", "unixreviewtime", "createdat", "ts", "eventtime"),
    "title": (
        "title", "name", "movietitle", "moviename", "itemname", "itemtitle", "productname", "producttitle", "appname",
        "booktitle", "trackname", "songtitle", "gamename", "businessname",
    ),
}  # fmt: skip
"""Usual names by meaning, without case and punctuation."""


@dataclass
class Names:
    """Columns of one file: the name in the file by meaning, and what was guessed."""

    found: dict[str, str] = field(default_factory=dict)
    guessed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def find_columns(
    path: Path,
    wanted: Mapping[str, str],
    present: Sequence[str],
    defaults: Mapping[str, str],
    keys: Mapping[str, str],
    more: Mapping[str, Sequence[str]] | None = None,
) -> Names:
    """Find the columns ``wanted`` (name by meaning) among those ``present``.

    A name that is not there is guessed: the one column of the same letters, whatever their case and punctuation;
    or, where the name is the config's default, the one column with a usual name. ``keys`` are the config keys for
    messages, ``more`` further usual names. What is not found is in ``missing``.

    Raises:
        DataError: several columns could be meant; names them and the key.
    """
    names = Names()
    free = [name for name in present if name not in wanted.values()]
    for kind, name in wanted.items():
        if name in present:
            names.found[kind] = name
            continue
        likely = [other for other in free if _plain(other) == _plain(name)]
        if not likely and name == defaults.get(kind):
            usual = (*USUAL.get(kind, ()), *(more or {}).get(kind, ()))
            likely = [other for other in free if _plain(other) in usual]
        if len(likely) > 1:
            raise DataError(
                f"{path}: line 1: no column '{name}', and {', '.join(likely)} could be meant; set {keys[kind]}=NAME"
            )
        if likely:
            names.found[kind] = likely[0]
            names.guessed.append(f"{path.name}: column '{likely[0]}' is read as the {kind} ({keys[kind]})")
        else:
            names.missing.append(kind)
    return names


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
