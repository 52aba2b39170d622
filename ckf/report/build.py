"""``report.md`` and ``report.html`` of one run, or a summary of several."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from ckf.config.serialization import fingerprint_payload
from ckf.core.artifact_store import fingerprint
from ckf.core.errors import ArtifactError
from ckf.report.format import task_columns
from ckf.report.load_runs import Run, load_run, same_protocol
from ckf.report.multi_run_summary import summary_page
from ckf.report.plots import reliability_curves, training_curves
from ckf.report.run_report import Content, run_content
from ckf.report.run_tables import calibration
from ckf.report.table import Cell, Number, Table, markdown_table


def report(runs: list[Path], out: Path) -> Path:
    """Write ``report.md`` and ``report.html`` to ``out`` and return it.

    Raises:
        ArtifactError: no runs, an unfinished one, or runs of different protocols.
    """
    if not runs:
        raise ArtifactError("report: no run folder matches; e.g. `ckf report runs='outputs/*' out=report`")
    loaded = [load_run(path) for path in sorted(runs)]
    content = run_content(loaded[0]) if len(loaded) == 1 else summary_content(loaded)
    html = to_html(content, loaded) if len(loaded) == 1 else summary_page(loaded, content.title, out)
    pages = {"report.md": to_markdown(content), "report.html": html}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (out / name).write_text(text, encoding="utf-8")
    return out


def to_markdown(content: Content) -> str:
    """Render for a terminal and for a repository page alike: columns are aligned."""
    text = f"# {content.title}\n"
    for table in content.tables:
        text += f"\n## {table.title}\n\n{markdown_table(table)}\n"
    if content.conclusions:
        text += "\n## Conclusions\n\n" + "\n".join(f"- {line}" for line in content.conclusions) + "\n"
    if content.caveats:
        text += "\n## Caveats\n\n" + "\n".join(f"- {line}" for line in content.caveats) + "\n"
    if content.made:
        text += "\n## How it was made\n\n" + "\n".join(f"- {name}: {line}" for name, line in content.made) + "\n"
    return text


def to_html(content: Content, runs: list[Run]) -> str:
    """Render one self-contained page: styles and curves are inside."""
    environment = Environment(loader=PackageLoader("ckf.report", "."), autoescape=select_autoescape(default=True))
    return environment.get_template("report.html.j2").render(
        content=content, curves=training_curves(runs), calibration=_calibration(runs)
    )


def _calibration(runs: list[Run]) -> str:
    """The reliability curves of a single run (test before val); those of several would cover one another."""
    if len(runs) > 1:
        return ""
    for split in reversed(runs[0].splits):
        curves = calibration(runs[0], split)
        if curves:
            return reliability_curves(curves, f"ctr, {split}, 15 bins")
    return ""


def summary_content(runs: list[Run]) -> Content:
    """Several runs: one row for each config, mean ± sd over its seeds."""
    same_protocol(runs)
    tasks = list(dict.fromkeys(task.name for run in runs for task in run.config.scored_mix))
    candidates = runs[0].config.ranking
    tasks_by_name = {name: task for run in runs for name, task in run.config.task_set.items()}
    columns = {}
    for task in tasks:
        title, metric = next(iter(task_columns(tasks_by_name[task], candidates).items()))
        columns[f"{task} {title}"] = f"test/{task}/{metric}"
    rows: list[list[Cell]] = []
    for members in _by_config(runs):
        cells = [Number.over([run.get(key) for run in members]) for key in columns.values()]
        rows.append([_label(members[0], runs), *cells, str(len(members))])
    return Content(
        f"{len(runs)} runs on {runs[0].config.dataset.name}",
        tables=[
            Table("runs (mean ± sd over seeds)", ["run", *columns, "seeds"], sorted(rows, key=lambda row: str(row[0])))
        ],
        made=[("folders", ", ".join(run.path.name for run in runs))],
    )


def _by_config(runs: list[Run]) -> list[list[Run]]:
    """Group the runs that differ in their seed only."""
    groups: dict[str, dict[int, Run]] = {}
    for run in runs:
        group = groups.setdefault(fingerprint(fingerprint_payload(run.config)), {})
        other = group.setdefault(run.config.seed, run)
        if other is not run:
            raise ArtifactError(f"{other.path} and {run.path} have the same config and seed; name one of them")
    return [list(group.values()) for group in groups.values()]


def _label(run: Run, runs: list[Run]) -> str:
    """The settings in which the runs differ, for this run; of those that can change a result."""
    mine, *flats = (_flat(fingerprint_payload(r.config)) for r in (run, *runs))
    keys = [key for key in mine if not key.startswith("method.") and any(flat.get(key) != mine[key] for flat in flats)]
    return ", ".join(f"{key}={mine[key]}" for key in keys) or run.config.method.name


def _flat(node: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {prefix.removesuffix("."): node}
    flat: dict[str, object] = {}
    for key, value in node.items():
        flat.update(_flat(value, f"{prefix}{key}."))
    return flat
