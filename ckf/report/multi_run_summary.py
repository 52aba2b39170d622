"""Several runs as a sweep without a file: a row for each setting in which they differ, a column for each task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ckf.config.serialization import fingerprint_payload
from ckf.config.sweep_file import Sweep
from ckf.metrics import protocol_tag
from ckf.report.html_page import sweep_page
from ckf.report.load_runs import Run, cost_metrics
from ckf.report.plots import draw, svg
from ckf.report.result_store import Provenance, Result, machine_text, row_name, versions_text
from ckf.report.sweep_table import make_table
from ckf.report.table_rows import table_lines
from ckf.runs.folder import result_key


def summary_page(runs: Sequence[Run], title: str, out: Path) -> str:
    """The page of a sweep for any runs of one protocol, to be written into ``out``."""
    keys = differing_keys(runs)
    results = [_result(run, keys) for run in runs]
    sweep = Sweep(
        title=title,
        question="Rows are the settings in which the runs differ; seeds are averaged over.",
        rows=keys or ["method"],
        metrics=_metrics(runs),
    )
    lines = table_lines(sweep, results)
    drawn = {kind: figure for kind in sweep.figures if (figure := draw(kind, sweep, lines)) is not None}
    pictures = {kind: svg(figure) for kind, figure in drawn.items()}
    return sweep_page(out / "report.html", sweep, make_table(sweep, lines), lines, results, [], pictures)


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """Dotted keys in which runs differ; a group by itself where another option was chosen."""
    flats = [_flat(fingerprint_payload(run.config)) for run in runs]
    known = list(dict.fromkeys(key for flat in flats for key in flat))
    differing = [key for key in known if len({str(flat.get(key)) for flat in flats}) > 1]
    groups = [key.removesuffix(".name") for key in differing if key.count(".") == 1 and key.endswith(".name")]
    others = [key for key in differing if key.split(".")[0] not in groups and not key.startswith("method.")]
    return [*groups, *others]


def _result(run: Run, keys: Sequence[str]) -> Result:
    flat = _flat(fingerprint_payload(run.config))
    row: dict[str, Any] = {key: flat.get(f"{key}.name", flat.get(key)) for key in keys}
    row = row or {"method": run.config.method.name}
    key = result_key(run.config)
    origin = Provenance(
        key, row_name(row), run.config.seed, f"ckf report of {run.path}", str(run.metadata.get("git") or "unknown"),
        run.metadata["artifacts"]["dataset"]["hash"], versions_text(run.metadata.get("versions") or {}),
        machine_text(run.metadata.get("machine") or {}), None,
    )  # fmt: skip
    metrics = {**run.metrics, **cost_metrics(run.metadata)}
    return Result(key, row, run.config.seed, metrics, origin, run.config, run)


def _metrics(runs: Sequence[Run]) -> list[str]:
    every = {name: task for run in runs for name, task in run.config.task_set.items()}
    mixed = {entry.name for run in runs for entry in run.config.scored_mix}
    tasks = [task for name, task in every.items() if name in mixed]
    tag = protocol_tag(runs[0].config.tasks.candidates)
    found = [f"test/{task.name}/{task.headline.key(tag)}" for task in tasks]
    return found + [f"test/{task.name}/uauc" for task in tasks if task.binary]


def _flat(node: object, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix.removesuffix("."): node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat.update(_flat(value, f"{prefix}{key}."))
    return flat
