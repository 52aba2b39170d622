"""The table of a sweep, from kept results alone: ``RESULTS.md`` and figures, and a page below ``outputs``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ckf.config.sweep_file import Sweep, load_sweep, rendered_path, results_path, sweep_name
from ckf.metrics import LEAST_USERS
from ckf.report.format import digits
from ckf.report.html_page import sweep_page
from ckf.report.load_runs import COST, UNKNOWN_CAVEAT, UNKNOWN_ORIGIN
from ckf.report.plots import draw, svg
from ckf.report.published import figure_of
from ckf.report.result_store import Result, gather_results
from ckf.report.significance import SIGNIFICANCE, from_control, from_text, mark_significance, ranking
from ckf.report.table import MISSING, Cell, Number, Table, csv_table, latex_table, markdown_table
from ckf.report.table_rows import BIAS, TableRow, heading, same_data, table_lines

_NAMED = 10
"""Unfinished trials that a table names at most."""


def render_table(place: Path, outputs: Path, figures: Path | None = None) -> Path:
    """Gather a sweep's results from ``outputs`` and write its table; ``place`` is its file or the folder of sweep.yaml.

    Next to the file: ``results.csv``, ``provenance.csv``, ``RESULTS.md`` and the first of its figures. In
    ``outputs/tables``, not for a repository: one page (HTML) with all figures and the origin of every number, and the
    table as LaTeX and CSV.
    ``figures``: a folder that the figures are written to as PDF as well, for a paper.

    Raises:
        ArtifactError: nothing is finished yet, a run is of a dirty tree, or two results are of different data.
    """
    path = place / "sweep.yaml" if place.is_dir() else place
    sweep = load_sweep(path)
    results, missing = gather_results(path, sweep, outputs)
    lines, target = table_lines(sweep, results), rendered_path(path)
    table = make_table(sweep, lines)
    drawn = {kind: figure for kind in sweep.figures if (figure := draw(kind, sweep, lines)) is not None}
    pictures = {kind: svg(figure) for kind, figure in drawn.items()}
    shown = ""
    page = outputs / "tables" / f"{sweep_name(path)}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(sweep_page(page, sweep, table, lines, results, missing, pictures), encoding="utf-8")
    page.with_suffix(".tex").write_text(latex_table(table), encoding="utf-8")
    page.with_suffix(".csv").write_text(csv_table(table), encoding="utf-8")
    for kind, text in list(pictures.items())[:1]:
        target.with_suffix(".svg").write_text(text, encoding="utf-8")
        shown = f"![{heading(sweep.metrics[0])}, {kind}]({target.with_suffix('.svg').name})"
    target.write_text(_markdown(path, sweep, table, lines, results, missing, shown), encoding="utf-8")
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for kind, figure in drawn.items():
            name = f"{sweep_name(path)}-{kind}.pdf"
            figure.savefig(figures / name, metadata={"CreationDate": None})
    return target


def make_table(sweep: Sweep, lines: Sequence[TableRow]) -> Table:
    """Rows by columns, with the best, the second best and what differs from the best baseline marked."""
    marks, note = _marks(sweep, lines)
    rows: list[list[Cell]] = [
        [
            line.name,
            *(
                Number.over(
                    [m.get(metric) for m in line.seeds.values()], digits(metric), marks.get((place, metric), ())
                )
                for metric in sweep.metrics
            ),
        ]
        for place, line in enumerate(lines)
    ]
    header = [" / ".join(sweep.rows), *map(heading, sweep.metrics)]
    for metric in sweep.metrics:
        known = [line.published(metric) for line in lines]
        if any(known):
            header.append(f"{heading(metric)}, published")
            for row, found in zip(rows, known, strict=True):
                row.append(Number(figure_of(found, metric)) if found else MISSING)
    for row, line in zip(rows, lines, strict=True):
        row.append(_seeds(line))
    unknown = [line.name for line in lines if line.is_row and any(line.values(UNKNOWN_ORIGIN))]
    caveats = [f"{UNKNOWN_CAVEAT}: {', '.join(unknown)}."] if unknown else []
    return Table(sweep.title, [*header, "seeds"], rows, note, caveats)


def _marks(sweep: Sweep, lines: Sequence[TableRow]) -> tuple[Mapping[tuple[int, str], set[str]], str]:
    """Marks of cells (best, significant), by line and metric, and the note that explains them."""
    marks: dict[tuple[int, str], set[str]] = {}
    for metric in sweep.metrics:
        for place, mark in zip(ranking([line.seeds for line in lines], metric), ("best", "second"), strict=False):
            marks[place, metric] = {mark}
    if not same_data(lines):
        return marks, "Rows are of different data, so none is tested against a baseline of another."
    named = [(line.name, line.seeds) for line in lines]
    quality = [metric for metric in sweep.metrics if not metric.startswith(COST)]
    few = [metric for metric in quality if any(rows < LEAST_USERS for line in lines for rows in line.counts(metric))]
    quality = [metric for metric in quality if metric not in few]
    found = mark_significance(named, {line.name for line in lines if line.is_row}, quality, BIAS)
    for (place, column), mark in found.items():
        marks.setdefault((place, quality[column]), set()).add(mark)
    notes = [SIGNIFICANCE] if found else []
    if few:
        names = ", ".join(map(heading, few))
        notes.append(f"Not tested, since there are fewer than {LEAST_USERS} rows and so fewer users: {names}.")
    return marks, " ".join(notes)


def _seeds(line: TableRow) -> str:
    if line.source == "bias":
        return "any"
    return "1 (single seed)" if len(line.seeds) == 1 else str(len(line.seeds))


def _markdown(
    path: Path, sweep: Sweep, table: Table, lines: Sequence[TableRow], results: Sequence[Result], missing: list[str],
    figure: str,
) -> str:  # fmt: skip
    text = f"# {sweep.title}\n\n{sweep.question}\n\n"
    text += f"Made by `{table_command(path)}` (base: `{' '.join(sweep.overrides)}`). "
    text += "Mean ± sd over seeds; best mean in bold, second best underlined. "
    text += f"Figures of single runs, with their intervals, are in `{results_path(path).name}`.\n\n"
    text += markdown_table(table) + "".join(f"\n\n{line}" for line in (table.note, *table.caveats) if line) + "\n"
    text += f"\n{figure}\n" if figure else ""
    metric = sweep.metrics[0]
    pairs = [*from_text(lines, metric), *from_control(sweep, lines, metric)]
    text += "".join(f"\n- {pair.row} minus {pair.other}, {heading(metric)}: {pair}" for pair in pairs) + "\n"
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        text += f"\nNot finished: {', '.join(missing[:_NAMED])}{more}.\n"
    return text + f"\n{provenance_line(results)}\n"


def table_command(path: Path) -> str:
    """The command that makes a table."""
    form = "" if path.stem == "sweep" else f" FORM={path.stem}"
    return f"make table-{path.parent.name}{form}"


def provenance_line(results: Sequence[Result]) -> str:
    """Machines and commits behind results; whether they are of several commits, or of an older format."""
    kept = [result.provenance for result in results]
    machines = sorted({one.machine for one in kept if one.machine})
    commits = Counter(one.commit for one in kept)
    text = f"Machine: {'; '.join(machines) or 'not recorded'}. "
    if len(commits) == 1:
        text += f"Commit: {next(iter(commits))}."
    else:
        text += "Rows come from different commits: "
        text += ", ".join(f"{commit} ({number} runs)" for commit, number in sorted(commits.items())) + "."
    old = sum(one.carried_over for one in kept)
    if old:
        which = "All runs were" if old == len(kept) else f"{old} of {len(kept)} runs were"
        text += f" {which} made before the present format of runs; `ckf sweep` makes them again."
    return text
