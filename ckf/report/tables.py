"""The table of a sweep, ``RESULTS.md`` and ``RESULTS.svg``, rendered from its results."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from scipy.stats import t

from ckf.report.cells import UNKNOWN_ORIGIN, UNKNOWN_STAMP, Table, mean_sd
from ckf.report.figures import dot_plot
from ckf.report.formats import csv_table, latex_table, markdown_table
from ckf.report.results import RESULTS, gather_results
from ckf.report.significance import SIGNIFICANCE, Seeds, judge, ranking
from ckf.sweep import VARIANT, Sweep, load_sweep

_BASELINES = {"text": "text-only", "cf": "CF model", "floor": "bias floor"}


def render_table(folder: Path, outputs: Path) -> Path:
    """Gather the sweep's results from ``outputs`` and write ``RESULTS.md``, ``.svg``, ``.csv`` and ``.tex`` from them.

    Raises:
        ArtifactError: nothing is finished yet, or two results are of different data.
    """
    sweep = load_sweep(folder / "sweep.yaml")
    results, missing = gather_results(folder, sweep, outputs)
    target = folder / "RESULTS.md"
    target.write_text(_rendered(folder, sweep, results, missing), encoding="utf-8")
    target.with_suffix(".svg").write_text(_figure(sweep, results), encoding="utf-8")
    table = make_table(sweep, results)
    target.with_suffix(".csv").write_text(csv_table(table), encoding="utf-8")
    target.with_suffix(".tex").write_text(latex_table(table), encoding="utf-8")
    return target


def _rendered(folder: Path, sweep: Sweep, done: list[dict[str, Any]], missing: list[str]) -> str:
    machines = sorted(
        {f"{r['machine']['cores']} cores, Python {r['machine']['python']}" for r in done if r.get("machine")}
    )
    text = f"# {sweep.title}\n\n{sweep.question}\n\n"
    text += f"Made by `make table-{folder.name}` (base: `{' '.join(sweep.overrides)}`). "
    text += "Mean ± sd over seeds; best mean in bold, second best underlined. "
    text += f"Intervals of single runs are in `{RESULTS}/`.\n\n"
    table = make_table(sweep, done)
    text += (
        markdown_table(table)
        + (f"\n\n{table.note}" if table.note else "")
        + f"\n\n![{_heading(sweep.metrics[0])} of each row](RESULTS.svg)\n"
    )
    text += "".join(f"\n- {line}" for line in _paired_lines(sweep, done)) + "\n"
    if missing:
        text += f"\nNot finished: {', '.join(missing)}.\n"
    commits = sorted({str(r["git"]) for r in done})
    text += f"\nMachine: {'; '.join(machines) or 'not recorded'}. Commit: {', '.join(commits)}.\n"
    return text


def _by_row(results: list[dict[str, Any]]) -> dict[str, Seeds]:
    rows: dict[str, Seeds] = {}
    for result in results:
        rows.setdefault(_row_name(result["row"]), {})[result["seed"]] = result["metrics"]
    return rows


def _row_name(row: dict[str, Any]) -> str:
    return ", ".join(str(value) if key == VARIANT else f"{key}={value}" for key, value in row.items())


def _figure(sweep: Sweep, results: list[dict[str, Any]]) -> str:
    metric, by_row = sweep.metrics[0], _by_row(results)
    values = {
        name: [metrics[metric] for metrics in seeds.values() if metric in metrics]
        for name, seeds in [*by_row.items(), *_baseline_lines(by_row)]
    }
    return dot_plot({name: found for name, found in values.items() if found}, _heading(metric))


def make_table(sweep: Sweep, results: list[dict[str, Any]]) -> Table:
    """Rows by columns, with the best, the second best and what differs from the best baseline marked."""
    by_row = _by_row(results)
    lines = [*by_row.items(), *_baseline_lines(by_row)]
    lines = [line for line in lines if any(m in metrics for metrics in line[1].values() for m in sweep.metrics)]
    rows = [
        [name, *(mean_sd([seeds[s].get(metric) for s in seeds]) for metric in sweep.metrics), _seeds(name, seeds)]
        for name, seeds in lines
    ]
    marks: dict[tuple[int, int], set[str]] = {}
    for column, metric in enumerate(sweep.metrics, start=1):
        for place, mark in zip(ranking([seeds for _, seeds in lines], metric), ("best", "second"), strict=False):
            marks[place, column] = {mark}
    judged = judge(lines, set(by_row), sweep.metrics, _BASELINES["floor"])
    for (row, column), mark in judged.items():
        marks.setdefault((row, column + 1), set()).add(mark)
    header = [" / ".join(sweep.rows), *(_heading(m) for m in sweep.metrics), "seeds"]
    notes = [SIGNIFICANCE] if judged else []
    unknown = [name for name, seeds in by_row.items() if any(seed.get(UNKNOWN_ORIGIN) for seed in seeds.values())]
    if unknown:
        notes.append(f"{UNKNOWN_STAMP}: {', '.join(unknown)}.")
    return Table(sweep.title, header, rows, " ".join(notes), marks)


def _baseline_lines(by_row: dict[str, Seeds]) -> list[tuple[str, Seeds]]:
    """The baselines: one line where all rows have the same, else one line for each row (seed -> metrics)."""
    lines = []
    for source, name in _BASELINES.items():
        mine = {row: _baseline(seeds, source) for row, seeds in by_row.items()}
        merged: Seeds = {}
        for seeds in mine.values():
            merged.update(seeds)
        if any(merged[seed] != metrics for seeds in mine.values() for seed, metrics in seeds.items()):
            lines += [(f"{name} ({row})", seeds) for row, seeds in mine.items() if seeds]
        elif source == "floor":  # counting draws nothing at random: the same for every seed
            lines.append((name, dict(list(merged.items())[:1])))
        else:
            lines.append((name, merged))
    return lines


def _baseline(seeds: Seeds, source: str) -> Seeds:
    found = {
        seed: {key.removeprefix(f"{source}/"): metrics[key] for key in metrics if key.startswith(f"{source}/")}
        for seed, metrics in seeds.items()
    }
    return {seed: metrics for seed, metrics in found.items() if metrics}


def _paired_lines(sweep: Sweep, results: list[dict[str, Any]]) -> list[str]:
    """Each row against its text-only twin and against the control, in the table's first metric, seed by seed."""
    metric, by_row = sweep.metrics[0], _by_row(results)
    control = by_row.get(_row_name(sweep.control), {})
    lines = []
    for row, seeds in by_row.items():
        text = {seed: metrics.get(f"text/{metric}") for seed, metrics in seeds.items()}
        rival = {seed: metrics.get(metric) for seed, metrics in control.items()}
        for name, others in (("text-only", text), (_row_name(sweep.control), rival)):
            pairs = [(metrics.get(metric), others.get(seed)) for seed, metrics in seeds.items()]
            found = [mine - other for mine, other in pairs if mine is not None and other is not None]
            if name != row and len(found) > 1:
                lines.append(f"{row} minus {name}, {_heading(metric)}: {_interval(found)}")
    return lines


def _interval(differences: list[float]) -> str:
    mean, count = statistics.mean(differences), len(differences)
    half = float(t.ppf(0.975, count - 1)) * statistics.stdev(differences) / math.sqrt(count)
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}] (95% t-interval, paired over {count} seeds)"


def _seeds(name: str, seeds: Seeds) -> str:
    if name.startswith(_BASELINES["floor"]):
        return "any"
    return "1 (single seed)" if len(seeds) == 1 else str(len(seeds))


def _heading(metric: str) -> str:
    return metric.removeprefix("test/").replace("_minus_text", " minus text-only").replace("_low", ", lower 95%")
