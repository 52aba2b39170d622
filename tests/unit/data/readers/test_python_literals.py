"""Python literals read as data, as Python would read them; titles fit for a prompt."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckf.data.readers.python_literals import MAX_CHARS, parse_literal
from ckf.data.titles import clean_title, placeholder_title

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
    st.characters(exclude_categories=["Cs"])
)  # fmt: skip
NESTED = st.recursive(
    PLAIN, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text("ab'\"\\\n", max_size=4), x), max_leaves=12
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), NESTED, max_size=5))
@settings(max_examples=300, deadline=None)
def test_a_literal_is_read_as_python_would(value: dict[str, Any]) -> None:
    assert parse_literal(repr(value)) == value


@given(st.text("{}[]'\"\\,: axnuN0.1\t(-+", max_size=30))
@settings(max_examples=500, deadline=None)
def test_rubbish_is_a_value_error_or_what_python_reads(line: str) -> None:
    try:
        found = parse_literal(line)
    except ValueError:
        return
    try:
        assert ast.literal_eval(line.strip()) == found
    except (ValueError, SyntaxError):  # JSON's own: an escape that Python does not have
        assert json.loads(line) == found


@pytest.mark.parametrize(
    "line",
    [
        "{" * 100_000,
        "[" * 5000 + "]" * 5000,
        "{'a': " + "-" * 100_000 + "1}",
        "{'a': '" + "x" * MAX_CHARS + "'}",
        "{'a': '\\ud800'",
        "",
    ],
)
def test_a_line_made_to_hurt(line: str) -> None:
    with pytest.raises(ValueError, match=r"literal|longest|not a dict"):
        parse_literal(line)


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        ("The &quot;Old&quot; Man", 'The "Old" Man'),
        ("A &amp;amp; B", "A & B"),
        ("Tom  \n Sawyer\x00", "Tom Sawyer"),
        ("Bold <b>Move</b>", "Bold Move"),
        ("I <3 you", "I <3 you"),
        ("a < b > c", "a < b > c"),
        ("<Compass>", "<Compass>"),
        ("戦争と平和", "戦争と平和"),
        ("1984", "1984"),
        ("<span class='x'>By", None),
        ("&lt;span class=&quot;x&quot;&gt;By", None),
        ("<!-- hidden -->", None),
        ("!!!", None),
        ("", None),
        (None, None),
        ("x" * 5000, None),
        ("bad \ud800 half", "bad half"),
    ],
)
def test_titles(raw: str | None, title: str | None) -> None:
    assert clean_title(raw) == title


def test_stand_ins() -> None:
    assert placeholder_title("I", "B", "C") == ("B (C)", "brand_and_category")
    assert placeholder_title("I", "B", None) == ("B", "brand")
    assert placeholder_title("I", None, "C") == ("I", "raw_id")
