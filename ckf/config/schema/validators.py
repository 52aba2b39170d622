"""Checks that the nodes' ``problems()`` share: each yields one line for a fault."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from ckf.core.errors import Problem


def at_least(name: str, value: float | None, low: float) -> Iterator[Problem]:
    """Yield a problem line when ``value`` is set and below ``low``."""
    if value is not None and value < low:
        yield Problem(name, f"must be at least {low:g}, got {value:g}")


def fraction(name: str, value: float, *, open_top: bool = False) -> Iterator[Problem]:
    """Yield a problem line when ``value`` is outside [0, 1] (or [0, 1) with ``open_top``)."""
    if not 0 <= value <= 1 or (open_top and value == 1):
        yield Problem(name, f"must be a fraction from 0 to {'below ' if open_top else ''}1, got {value:g}")


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> Iterator[Problem]:
    """Yield a problem line when ``value`` is not one of ``allowed``."""
    if value not in allowed:
        yield Problem(name, f"'{value}' is not allowed; one of {', '.join(allowed)}")


def known_encoding(name: str, value: str) -> Iterator[Problem]:
    """Yield a problem line when Python knows no text encoding of that name."""
    try:
        codecs.lookup(value)
    except LookupError:
        yield Problem(name, f"'{value}' is no text encoding; e.g. utf8, latin-1, cp1252, utf-16")
