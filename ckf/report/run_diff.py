"""``ckf diff RUN_A RUN_B``: what differs in config, metrics and answers of two runs on the same examples."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from ckf.core.artifact_store import write_json
from ckf.core.errors import ArtifactError
from ckf.metrics import LEAST_USERS
from ckf.report.compare_runs import (
    Change,
    TaskComparison,
    compare_runs,
    config_differences,
    largest_changes,
    prompts_of,
)
from ckf.report.format import lower_is_better
from ckf.report.load_runs import Run, load_run
from ckf.report.table import MISSING, Cell, Interval, Number, Table, markdown_table

SAMPLES, SHOWN = 10_000, 5


def run_diff(run_a: Path, run_b: Path, out: Path | None = None, samples: int = SAMPLES) -> str:
    """Compare two finished runs; return the text, and write ``diff.md`` and ``diff.json`` to ``out``.

    Everything comes from the run folders; metrics are paired by example, users are resampled.

    Raises:
        ArtifactError: no finished run, a run with itself, another protocol or example set.
    """
    if run_a.resolve() == run_b.resolve():
        raise ArtifactError(f"{run_a}: a run does not differ from itself; name two runs")
    a, b = load_run(run_a), load_run(run_b)
    compared = compare_runs(a, b, samples)
    changes = largest_changes(a, b, SHOWN)
    prompts = prompts_of(a, sorted({change.example_ids[0] for change in changes}))
    settings = config_differences(a, b)
    text = _text(a, b, settings, compared, changes, prompts, samples)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "diff.md").write_text(text, encoding="utf-8")
        write_json(out / "diff.json", _json(a, b, settings, compared, changes, prompts, samples))
    return text


def _text(
    a: Run, b: Run, settings: list[tuple[str, Any, Any]], compared: list[TaskComparison], changes: list[Change],
    prompts: dict[str, str], samples: int,
) -> str:  # fmt: skip
    rows: list[list[Cell]] = [[key, _shown(mine), _shown(other)] for key, mine, other in settings]
    text = f"# a: {a.path.name}, b: {b.path.name}\n\n## config\n\n"
    text += markdown_table(Table("", ["key", "a", "b"], rows)) if rows else "The same."
    text += f"\n\n## metrics, a minus b\n\n{markdown_table(_metrics(compared))}\n\n"
    text += f"95% intervals and p: paired bootstrap over users, {samples} resamples. "
    text += f"Wilcoxon: signed-rank test on the users' own values. Both Holm-corrected over {len(compared)} metrics.\n"
    text += "\n## users and items that changed most\n\n"
    return text + (_changes_text(changes, prompts) if changes else "None: every answer is the same.\n")


def _metrics(compared: list[TaskComparison]) -> Table:
    header = ["metric", "a", "b", "a minus b", "95%", "p", "p Wilcoxon", "rows", "users with a value", ""]
    rows: list[list[Cell]] = []
    for found in compared:
        c = found.comparison
        tests = [Number(p, form=".3g") for p in (found.p_holm, found.p_wilcoxon_holm)]
        difference: list[Cell] = [Number(c.difference, form="+.4f"), Interval(c.low, c.high, "+.4f")]
        figures: list[Cell] = [Number(c.a), Number(c.b), *difference, *tests]
        counts = [str(found.rows), str(c.users)]
        rows.append([f"{found.split}/{found.task}/{c.metric}", *figures, *counts, better_run(found)])
    return Table("", header, rows)


def better_run(found: TaskComparison) -> str:
    """``a better``, ``b better`` (corrected p below 0.05), why there is no test, or nothing."""
    if found.comparison.units < LEAST_USERS:
        return f"not tested: {found.comparison.units} users, {LEAST_USERS} needed"
    if math.isnan(found.p_holm) or found.p_holm >= 0.05 or found.comparison.difference == 0:
        return ""
    a_ahead = (found.comparison.difference > 0) != lower_is_better(found.comparison.metric)
    return "a better" if a_ahead else "b better"


def _changes_text(changes: list[Change], prompts: dict[str, str]) -> str:
    text = ""
    for change in changes:
        unit = "ranks" if change.of_ranks else "in score"
        name = f"'{change.raw_id}' (ckf's {change.id})" if change.raw_id else f"{change.id} (ckf's number)"
        text += f"- {change.split}/{change.task}, {change.kind} {name}: {change.mean_change:+.4f} {unit} on average "
        text += f"over {change.rows}; most of all {', '.join(change.example_ids)}\n"
        if change.example_ids[0] in prompts:
            text += f"  - {change.example_ids[0]}: {prompts[change.example_ids[0]]}\n"
    return text


def _json(
    a: Run, b: Run, settings: list[tuple[str, Any, Any]], compared: list[TaskComparison], changes: list[Change],
    prompts: dict[str, str], samples: int,
) -> dict[str, Any]:  # fmt: skip
    metrics = {}
    for found in compared:
        c = dataclasses.asdict(found.comparison)
        values = {"rows": found.rows, "p_holm": found.p_holm, "p_wilcoxon_holm": found.p_wilcoxon_holm, **c}
        key = f"{found.split}/{found.task}/{values.pop('metric')}"
        metrics[key] = values
    return {
        "a": a.path.name,
        "b": b.path.name,
        "resamples": samples,
        "config": {key: {"a": mine, "b": other} for key, mine, other in settings},
        "metrics": metrics,
        "changes": [dataclasses.asdict(change) for change in changes],
        "prompts": prompts,
    }


def _shown(value: Any) -> str:
    text = MISSING if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
