"""What a file holds that was read, but not as one plain row a line: counted by kind, with the first lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OVER_LINES = "records_over_several_lines"
QUOTES_KEPT = "lines_with_a_quote_inside_an_unquoted_field"
UTF8_FOUND = "read_as_utf8"
UTF8_LINES = "lines_that_look_like_utf8"
_LISTED = 5
_TEXT = {
    OVER_LINES: "records over several lines: {count}, {extra} lines longer than one each (a stray quote joins rows so)",
    QUOTES_KEPT: "lines with a quote inside an unquoted field, which was kept: {count}",
    UTF8_FOUND: "read as UTF-8, which it is, and not as {first}",
    UTF8_LINES: "lines that look like UTF-8 among others that do not, read as the encoding that was named: {count}",
}


@dataclass
class FileNotes:
    """Notes on one file. ``extra``: lines by which records over several lines exceed their number."""

    path: Path
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)
    extra: int = 0

    def add(self, kind: str, first: int | str, last: int | None = None) -> None:
        """Count one case: a line, lines from ``first`` to ``last``, or a word."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        listed = self.first.setdefault(kind, [])
        if len(listed) < _LISTED:
            listed.append(str(first) if last is None else f"{first}-{last}")
        if last is not None and isinstance(first, int):
            self.extra += last - first

    def warnings(self) -> list[str]:
        """One line for each kind."""
        found = []
        for kind, count in self.counts.items():
            text = _TEXT[kind].format(count=f"{count:,}", extra=f"{self.extra:,}", first=self.first[kind][0])
            where = "" if kind == UTF8_FOUND else f"; first: line {', '.join(self.first[kind])}"
            found.append(f"{self.path.name}: {text}{where}")
        return found

    def to_json(self) -> dict[str, Any]:
        """The counts and the first lines of each kind, for the manifest."""
        kinds = {kind: {"count": count, "first": self.first[kind]} for kind, count in self.counts.items()}
        return {**kinds, "lines_beyond_one_a_record": self.extra} if kinds else {}
