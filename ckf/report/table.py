"""A table holds numbers; text is made here, last: Markdown for people, LaTeX for a paper, CSV to compute on."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

MISSING = "–"
MARKS = {"better": "*", "worse": "†"}
"""Behind a figure: significantly better or worse than the best baseline."""
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "†": r"$^\dagger$",
}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """The mean of what was measured in ``n`` of ``runs`` runs, its standard deviation, and its marks.

    ``marks``: ``best`` and ``second`` of a column, ``better`` and ``worse`` than the best baseline (significantly).
    How a mark is shown is the format's business, and so is ``form``, the digits.
    """

    mean: float | None
    sd: float | None = None
    n: int = 1
    runs: int = 1
    form: str = ".4f"
    marks: frozenset[str] = frozenset()

    @classmethod
    def over(cls, values: Sequence[float | None], form: str = ".4f", marks: Collection[str] = ()) -> Number:
        """Mean and standard deviation over runs, some of which may lack the figure."""
        found = [value for value in values if value is not None and not math.isnan(value)]
        sd = statistics.stdev(found) if len(found) > 1 else None
        mean = statistics.mean(found) if found else None
        return cls(mean, sd, len(found), len(values), form, frozenset(marks))

    @property
    def gaps(self) -> str:
        """In how many runs it was measured, where that is not all of them."""
        return f"{self.n} of {self.runs}" if 0 < self.n < self.runs else ""

    def __str__(self) -> str:
        spread = "" if self.sd is None or (self.form == ".0f" and self.sd == 0) else f" ± {number(self.sd, self.form)}"
        return number(self.mean, self.form) + spread + (f" ({self.gaps})" if self.gaps else "")


@dataclass(frozen=True)
class Interval:
    """The two ends of an interval; either may be missing, and then there is none."""

    low: float | None
    high: float | None
    form: str = ".4f"

    def __str__(self) -> str:
        return MISSING if self.missing else f"[{number(self.low, self.form)}, {number(self.high, self.form)}]"

    @property
    def missing(self) -> bool:
        """Whether there is no interval."""
        return any(end is None or math.isnan(end) for end in (self.low, self.high))


Cell = str | Number | Interval


@dataclass
class Table:
    """A table with its title. Every row has a cell for each column of the header."""

    title: str
    header: list[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    caveats: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"table '{self.title}': the row '{row[0]}' has {len(row)} cells for {self.header}")


def number(value: float | None, form: str = ".4f") -> str:
    """A figure as text: four decimals unless ``form`` sets another; a dash where nothing was measured."""
    return MISSING if value is None or math.isnan(value) else f"{value:{form}}"


def marks_of(cell: Cell) -> frozenset[str]:
    """Marks of a cell: best, second best, significant."""
    return cell.marks if isinstance(cell, Number) else frozenset()


def significance_signs(cell: Cell) -> str:
    """The signs behind a figure."""
    return "".join(sign for mark, sign in MARKS.items() if mark in marks_of(cell))


def markdown_table(table: Table) -> str:
    """A Markdown table whose columns line up when read as plain text; figures on the right.

    The best is bold, the second best underlined (``<ins>``), significance follows the figure.
    """
    rows = [table.header, *([_markdown(cell) for cell in row] for row in table.rows)]
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.header))]

    def line(row: list[str]) -> str:
        padded = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def latex_table(table: Table) -> str:
    """A ``tabular`` with booktabs rules; needs ``\\usepackage{booktabs}``. Best bold, second best underlined."""
    lines = [r"\begin{tabular}{l" + "r" * (len(table.header) - 1) + "}", r"\toprule"]
    lines += [" & ".join(map(latex_text, table.header)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_latex, row)) + r" \\" for row in table.rows]
    notes = [f"% {note}" for note in (table.note.replace("\\*", "*"), *table.caveats) if note]
    return "\n".join([*notes, *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def csv_table(table: Table) -> str:
    """Plain figures, a column each: mean, sd, of how many runs where some lack it, significance; gaps are empty."""
    columns = [part for column in range(len(table.header)) for part in _csv_columns(table, column)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(*columns, strict=True))
    return text.getvalue()


def _csv_columns(table: Table, column: int) -> list[list[str]]:
    """The columns of a CSV file that one column of a table becomes: title first."""
    title = table.header[column]
    cells = [row[column] for row in table.rows]
    numbers = [cell if isinstance(cell, Number) else None for cell in cells]
    means = [number(one.mean, one.form) if one else str(cell) for one, cell in zip(numbers, cells, strict=True)]
    found = [[title, *("" if text == MISSING else text for text in means)]]
    parts = {
        "sd": [number(one.sd, one.form) if one and one.sd is not None else "" for one in numbers],
        "measured": [one.gaps if one else "" for one in numbers],
        "vs baseline": ["".join(sorted(marks_of(cell) & set(MARKS))) for cell in cells],
    }
    return found + [[f"{title} {name}", *values] for name, values in parts.items() if any(values)]


def latex_text(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _markdown(cell: Cell) -> str:
    text, marks = str(cell), marks_of(cell)
    shown = f"**{text}**" if "best" in marks else f"<ins>{text}</ins>" if "second" in marks else text
    return shown + significance_signs(cell).replace("*", r"\*")


def _latex(cell: Cell) -> str:
    text, marks = latex_text(str(cell)), marks_of(cell)
    shown = rf"\textbf{{{text}}}" if "best" in marks else rf"\underline{{{text}}}" if "second" in marks else text
    return shown + latex_text(significance_signs(cell))
