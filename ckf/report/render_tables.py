"""One table in three formats: Markdown for people, LaTeX (booktabs) for a paper, CSV for whoever computes on."""

from __future__ import annotations

import csv
import io
import re

from ckf.report.format import MISSING, Table

MARKS = {"better": "*", "worse": "†"}
"""Behind a figure: significantly better or worse than the best baseline."""
_FIGURE = re.compile(r"(?P<mean>[-+]?[\d.]+)(?: ± (?P<sd>[\d.]+))?(?: \((?P<gaps>\d+ of \d+)\))?")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "†": r"$^\dagger$",
}  # fmt: skip


def markdown_table(table: Table) -> str:
    """A Markdown table whose columns line up when read as plain text; figures on the right.

    The best is bold, the second best underlined (``<ins>``), significance stands behind the figure.
    """
    body = [[_markdown(cell, _of(table, r, c)) for c, cell in enumerate(row)] for r, row in enumerate(table.rows)]
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (table.header, *body)]
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
    for r, row in enumerate(table.rows):
        cells = [_latex(cell, _of(table, r, c)) for c, cell in enumerate(row)]
        lines.append(" & ".join(cells) + r" \\")
    note = ["% " + table.note.replace("\\*", "*")] if table.note else []
    return "\n".join([*note, *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def csv_table(table: Table) -> str:
    """Plain figures, a column each: mean, sd, of how many seeds where some lack it, significance; gaps are empty."""
    columns = [_plain_columns(table, column) for column in range(len(table.header))]
    rows = zip(*(values for column in columns for values in column), strict=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _plain_columns(table: Table, column: int) -> list[list[str]]:
    """The columns of a CSV file that one column of a table becomes: title first."""
    title = table.header[column]
    parts = [_FIGURE.fullmatch(row[column]) for row in table.rows]
    found = [[title, *("" if row[column] == MISSING else row[column] for row in table.rows)]]
    if any(part and (part["sd"] or part["gaps"]) for part in parts):
        found[0] = [title, *(part["mean"] if part else "" for part in parts)]
        for name, group in (("sd", "sd"), ("measured", "gaps")):
            values = [(part[group] or "") if part else "" for part in parts]
            found += [[f"{title} {name}", *values]] if any(values) else []
    judged = ["".join(sorted(_of(table, r, column) & set(MARKS))) for r in range(len(table.rows))]
    return found + ([[f"{title} vs baseline", *judged]] if any(judged) else [])


def latex_text(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _of(table: Table, row: int, column: int) -> set[str]:
    return table.marks.get((row, column), set())


def _behind(marks: set[str]) -> str:
    return "".join(sign for mark, sign in MARKS.items() if mark in marks)


def _markdown(cell: str, marks: set[str]) -> str:
    shown = f"**{cell}**" if "best" in marks else f"<ins>{cell}</ins>" if "second" in marks else cell
    return shown + _behind(marks).replace("*", r"\*")


def _latex(cell: str, marks: set[str]) -> str:
    text = latex_text(cell)
    shown = rf"\textbf{{{text}}}" if "best" in marks else rf"\underline{{{text}}}" if "second" in marks else text
    return shown + latex_text(_behind(marks))
