"""The table of a sweep: ``RESULTS.md``, ``.csv``, ``.tex``, ``.html`` and its figures, from its results alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ckf.config.sweep_file import Sweep, load_sweep, rendered_path, results_folder
from ckf.report.cost import COST
from ckf.report.format import MISSING, UNKNOWN_ORIGIN, UNKNOWN_STAMP, Table, mean_sd
from ckf.report.html_page import sweep_page
from ckf.report.paired_differences import from_control, from_text
from ckf.report.plots import draw, svg
from ckf.report.published import figure_of
from ckf.report.render_tables import csv_table, latex_table, markdown_table
from ckf.report.result_store import Result, gather_results
from ckf.report.significance import SIGNIFICANCE, mark_significance, ranking
from ckf.report.table_rows import BIAS, TableRow, heading, same_data, table_lines


def render_table(place: Path, outputs: Path, figures: Path | None = None) -> Path:
    """Gather a sweep's results from ``outputs`` and write its table; ``place`` is its file or the folder of sweep.yaml.

    ``figures``: a folder that the figures are written to as PDF as well, for a paper.

    Raises:
        ArtifactError: nothing is finished yet, or two results are of different data.
    """
    path = place / "sweep.yaml" if place.is_dir() else place
    sweep = load_sweep(path)
    results, missing = gather_results(path, sweep, outputs)
    lines, target = table_lines(sweep, results), rendered_path(path)
    table = make_table(sweep, lines)
    drawn = {kind: figure for kind in sweep.figures if (figure := draw(kind, sweep, lines)) is not None}
    names = {kind: _figure_name(target, kind, number) for number, kind in enumerate(drawn)}
    pictures = {kind: svg(figure) for kind, figure in drawn.items()}
    target.write_text(_markdown(path, sweep, table, lines, results, missing, names), encoding="utf-8")
    target.with_suffix(".csv").write_text(csv_table(table), encoding="utf-8")
    target.with_suffix(".tex").write_text(latex_table(table), encoding="utf-8")
    for kind, text in pictures.items():
        target.with_name(names[kind]).write_text(text, encoding="utf-8")
    target.with_suffix(".html").write_text(
        sweep_page(path, sweep, table, lines, results, missing, pictures), encoding="utf-8"
    )
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for kind, figure in drawn.items():
            name = f"{path.parent.name}-{Path(names[kind]).stem.removeprefix('RESULTS').strip('-') or kind}.pdf"
            figure.savefig(figures / name, metadata={"CreationDate": None})
    return target


def _figure_name(target: Path, kind: str, number: int) -> str:
    return f"{target.stem}.svg" if number == 0 else f"{target.stem}-{kind}.svg"


def make_table(sweep: Sweep, lines: Sequence[TableRow]) -> Table:
    """Rows by columns, with the best, the second best and what differs from the best baseline marked."""
    rows = [
        [line.name, *(mean_sd([m.get(metric) for m in line.seeds.values()], metric) for metric in sweep.metrics)]
        for line in lines
    ]
    marks: dict[tuple[int, int], set[str]] = {}
    seeds = [line.seeds for line in lines]
    for column, metric in enumerate(sweep.metrics, start=1):
        for place, mark in zip(ranking(seeds, metric), ("best", "second"), strict=False):
            marks[place, column] = {mark}
    judged, note = {}, "Rows are of different data, so none is tested against a baseline of another."
    if same_data(lines):
        named = [(line.name, line.seeds) for line in lines]
        quality = [metric for metric in sweep.metrics if not metric.startswith(COST)]
        judged = mark_significance(named, {line.name for line in lines if line.is_row}, quality, BIAS)
        note = SIGNIFICANCE if judged else ""
        for (place, column), mark in judged.items():
            marks.setdefault((place, sweep.metrics.index(quality[column]) + 1), set()).add(mark)
    header = [" / ".join(sweep.rows), *map(heading, sweep.metrics)]
    for metric in sweep.metrics:
        known = [line.published(metric) for line in lines]
        if any(known):
            header.append(f"{heading(metric)}, published")
            for row, found in zip(rows, known, strict=True):
                row.append(f"{figure_of(found, metric):.4f}" if found else MISSING)
    for row, line in zip(rows, lines, strict=True):
        row.append(_seeds(line))
    unknown = [line.name for line in lines if line.is_row and any(line.values(UNKNOWN_ORIGIN))]
    notes = [note, f"{UNKNOWN_STAMP}: {', '.join(unknown)}." if unknown else ""]
    return Table(sweep.title, [*header, "seeds"], rows, " ".join(filter(None, notes)), marks)


def _seeds(line: TableRow) -> str:
    if line.source == "bias":
        return "any"
    return "1 (single seed)" if len(line.seeds) == 1 else str(len(line.seeds))


def _markdown(
    path: Path, sweep: Sweep, table: Table, lines: Sequence[TableRow], results: Sequence[Result], missing: list[str],
    figures: dict[str, str],
) -> str:  # fmt: skip
    text = f"# {sweep.title}\n\n{sweep.question}\n\n"
    text += f"Made by `{table_command(path)}` (base: `{' '.join(sweep.overrides)}`). "
    text += "Mean ± sd over seeds; best mean in bold, second best underlined. "
    text += f"Intervals of single runs are in `{results_folder(path).name}/`.\n\n"
    text += markdown_table(table) + (f"\n\n{table.note}" if table.note else "") + "\n"
    for kind, name in figures.items():
        text += f"\n![{heading(sweep.metrics[0])}, {kind}]({name})\n"
    metric = sweep.metrics[0]
    pairs = [*from_text(lines, metric), *from_control(sweep, lines, metric)]
    text += "".join(f"\n- {pair.row} minus {pair.other}, {heading(metric)}: {pair}" for pair in pairs) + "\n"
    if missing:
        text += f"\nNot finished: {', '.join(missing)}.\n"
    return text + f"\n{provenance_line(results)}\n"


def table_command(path: Path) -> str:
    """The command that makes a table."""
    form = "" if path.stem == "sweep" else f" FORM={path.stem}"
    return f"make table-{path.parent.name}{form}"


def provenance_line(results: Sequence[Result]) -> str:
    """Machines and commits behind results."""
    records = [result.record for result in results]
    machines = {f"{r['machine']['cores']} cores, Python {r['machine']['python']}" for r in records if r.get("machine")}
    commits = sorted({str(record["git"]) for record in records})
    return f"Machine: {'; '.join(sorted(machines)) or 'not recorded'}. Commit: {', '.join(commits)}."
