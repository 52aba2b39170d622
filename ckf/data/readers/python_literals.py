"""Lines of Python literals (Amazon's 2014 metadata) read as data: never evaluated, three times ast's speed.

A literal becomes JSON by its string tokens alone: a run without double quotes and backslashes only needs
other quotes, any other token is rewritten by itself. What is not JSON after that (None, True, u'…',
tuples) goes to ``ast.literal_eval``. The two ways agree on every literal; JSON's own null, true and false
are taken too.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

MAX_CHARS = 1_000_000
"""A longer line is a fault: the syntax tree of one takes memory by the gigabyte."""

_TOKEN = re.compile(
    r"""((?:[^'"\\]++|'[^'"\\]*+')++)"""  # anything but quotes, and plain strings: many tokens at once
    r"""|'[^'\\]*+(?:\\.[^'\\]*+)*+'"""
    r"""|"[^"\\]*+(?:\\.[^"\\]*+)*+\"""",
    re.DOTALL,
)


def parse_literal(line: str) -> dict[str, Any]:
    """The dict that a line spells out.

    Raises:
        ValueError: not one literal, not a dict, or too long to be one.
    """
    if len(line) > MAX_CHARS:
        raise ValueError(f"{len(line):,} characters; the longest allowed line has {MAX_CHARS:,}")
    try:
        value = json.loads(_as_json(line))
    except (ValueError, SyntaxError, RecursionError):
        value = _slowly(line)
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not a dict")
    return value


def _as_json(line: str) -> str:
    if '"' not in line and "\\" not in line:
        return line.replace("'", '"')
    out, end = [], 0
    for match in _TOKEN.finditer(line):
        if match.start() != end:
            raise ValueError("an unfinished string")
        end = match.end()
        text = match.group()
        if match.lastindex == 1:
            out.append(text.replace("'", '"'))
        elif "\\" in text:
            out.append(json.dumps(_literal(text)))
        else:
            out.append('"' + text[1:-1].replace('"', '\\"') + '"')
    if end != len(line):
        raise ValueError("an unfinished string")
    return "".join(out)


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python does not know: the backslash then stands for itself
        return ast.literal_eval(text)


def _slowly(line: str) -> Any:
    try:
        return _literal(line)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"not a Python literal ({type(error).__name__})") from None
