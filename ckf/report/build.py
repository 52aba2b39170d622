"""``report.md`` and ``report.html`` of one run, or a summary of several."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from ckf.artifacts import plain
from ckf.config.compose import run_hash_payload
from ckf.errors import ArtifactError
from ckf.report.collect import Run, load_run, same_protocol
from ckf.report.content import Content, Table, number, run_content, task_columns
from ckf.report.figures import training_curves


def report(runs: list[Path], out: Path) -> Path:
    """Write ``report.md`` and ``report.html`` to ``out`` and return it.

    Raises:
        ArtifactError: no runs, an unfinished one, or runs of different protocols.
    """
    if not runs:
        raise ArtifactError("report: no run folder matches; e.g. `ckf report runs='outputs/*' out=report`")
    loaded = [load_run(path) for path in sorted(runs)]
    content = run_content(loaded[0]) if len(loaded) == 1 else summary_content(loaded)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(to_markdown(content), encoding="utf-8")
    (out / "report.html").write_text(to_html(content, loaded), encoding="utf-8")
    return out


def to_markdown(content: Content) -> str:
    """Render for a terminal and for a repository page alike: columns are aligned."""
    text = f"# {content.title}\n"
    for table in content.tables:
        text += f"\n## {table.title}\n\n{markdown_table(table)}\n"
    if content.verdicts:
        text += "\n## Verdict\n\n" + "\n".join(f"- {line}" for line in content.verdicts) + "\n"
    if content.stamps:
        text += "\n## Read with care\n\n" + "\n".join(f"- {line}" for line in content.stamps) + "\n"
    if content.made:
        text += "\n## How it was made\n\n" + "\n".join(f"- {name}: {line}" for name, line in content.made) + "\n"
    return text


def markdown_table(table: Table) -> str:
    """A Markdown table whose columns line up when read as plain text; figures on the right."""
    cells = [table.header, *table.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.header))]

    def line(row: list[str]) -> str:
        padded = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([line(table.header), rule, *map(line, table.rows)])


def to_html(content: Content, runs: list[Run]) -> str:
    """Render one self-contained page: styles and curves are inside."""
    environment = Environment(loader=PackageLoader("ckf.report", "."), autoescape=select_autoescape(default=True))
    return environment.get_template("report.html.j2").render(content=content, curves=training_curves(runs))


def summary_content(runs: list[Run]) -> Content:
    """Several runs: one row for each config, mean ± sd over its seeds."""
    same_protocol(runs)
    tasks = list(dict.fromkeys(task.name for run in runs for task in run.config.task_mix))
    candidates = runs[0].config.tasks.candidates
    columns = {}
    for task in tasks:
        title, metric = next(iter(task_columns(task, candidates).items()))
        columns[f"{task} {title}"] = f"test/{task}/{metric}"
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(str(sorted(plain(run_hash_payload(run.config)).items())), []).append(run)
    rows = []
    for members in groups.values():
        cells = [mean_sd([run.get(key) for run in members]) for key in columns.values()]
        rows.append([_label(members[0], runs), *cells, str(len(members))])
    return Content(
        f"{len(runs)} runs on {runs[0].config.dataset.name}",
        tables=[Table("runs (mean ± sd over seeds)", ["run", *columns, "seeds"], sorted(rows))],
        made=[("folders", ", ".join(run.path.name for run in runs))],
    )


def mean_sd(values: list[float | None]) -> str:
    """Mean ± standard deviation of what was measured; a single value stands alone."""
    found = [value for value in values if value is not None]
    if len(found) < 2:
        return number(found[0] if found else None)
    return f"{statistics.mean(found):.4f} ± {statistics.stdev(found):.4f}"


def _label(run: Run, runs: list[Run]) -> str:
    """The settings in which the runs differ, for this run."""
    flats = [_flat(plain(dataclasses.replace(r.config, seed=0))) for r in runs]
    mine = _flat(plain(dataclasses.replace(run.config, seed=0)))
    hidden = ("paths.", "logger.", "method.", "force")
    keys = [key for key in mine if not key.startswith(hidden) and any(flat.get(key) != mine[key] for flat in flats)]
    return ", ".join(f"{key}={mine[key]}" for key in keys) or run.config.method.name


def _flat(node: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {prefix.removesuffix("."): node}
    flat: dict[str, object] = {}
    for key, value in node.items():
        flat.update(_flat(value, f"{prefix}{key}."))
    return flat
