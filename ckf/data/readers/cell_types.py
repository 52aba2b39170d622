"""One cell of a file walked line by line: strict conversion to its column's type."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import polars as pl


def converter(dtype: Any) -> Callable[[Any], Any]:
    """A function to the column's type that raises ValueError, TypeError or OverflowError for what does not fit."""
    if dtype == pl.String:
        return _text
    if dtype == pl.Boolean:
        return _boolean
    if dtype.is_float():
        return _number
    if dtype.is_integer():
        return _whole
    if isinstance(dtype, pl.List):
        inner = converter(dtype.inner)
        return lambda value: [None if item is None else inner(item) for item in _checked_list(value)]
    return lambda value: value


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate is no text


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _whole(value: Any) -> int:
    number = value if isinstance(value, int) else _number(value)
    if isinstance(value, bool) or number != int(number) or abs(number) >= 2**63:
        raise ValueError
    return int(number)


def _checked_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise ValueError


def noun(dtype: Any) -> str:
    """What a message calls a value of the column's type."""
    if dtype == pl.String:
        return "text"
    if isinstance(dtype, pl.List):
        return "a list"
    if dtype == pl.Boolean:
        return "true or false"
    return "a whole number" if dtype.is_integer() else "a number"
