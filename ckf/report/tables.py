"""A table of ``experiments/<name>``: results gathered from run folders, kept beside the sweep, rendered from there."""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path
from typing import Any

from scipy.stats import t

from ckf.artifacts import plain, read_json, write_json
from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig
from ckf.errors import ArtifactError, CkfError
from ckf.report.build import markdown_table
from ckf.report.collect import Run, load_run
from ckf.report.content import MISSING, Table, lower_is_better, mean_sd
from ckf.runs import CONFIG, is_finished, result_key
from ckf.sweep import Sweep, Trial, file_trials, load_sweep

RESULTS = "results"
Seeds = dict[int, dict[str, float]]  # seed -> metrics of its run
_BASELINES = {"text": "text-only", "cf": "CF model", "floor": "bias floor"}


def render_table(folder: Path, outputs: Path) -> Path:
    """Copy the sweep's finished runs into ``folder/results`` and write ``folder/RESULTS.md`` from them.

    A result that is already kept counts as done when its run folder is gone.

    Raises:
        ArtifactError: nothing is finished yet.
    """
    sweep = load_sweep(folder / "sweep.yaml")
    trials = file_trials(sweep)
    keys = [result_key(compose(list(trial.overrides))[0]) for trial in trials]
    finished = _finished_runs(outputs)
    kept = folder / RESULTS
    if not any(key in finished or (kept / f"{key}.json").is_file() for key in keys):
        raise ArtifactError(
            f"{folder}: no run of its sweep is finished; `ckf sweep {folder / 'sweep.yaml'}` makes them"
        )
    results: dict[str, dict[str, Any]] = {}
    for trial, key in zip(trials, keys, strict=True):
        if key in finished:
            results[key] = _result(trial, sweep, finished[key])
        elif (kept / f"{key}.json").is_file():
            results[key] = read_json(kept / f"{key}.json")
    _same_data(results)
    kept.mkdir(exist_ok=True)
    for key, result in results.items():
        write_json(kept / f"{key}.json", result)
    missing = [trial.name for trial, key in zip(trials, keys, strict=True) if key not in results]
    target = folder / "RESULTS.md"
    target.write_text(_rendered(folder, sweep, list(results.values()), missing), encoding="utf-8")
    return target


def _finished_runs(outputs: Path) -> dict[str, Run]:
    """Finished runs by their result's name; what cannot count is said on stderr."""
    runs = {}
    for path in sorted(config.parent for config in outputs.glob(f"*/{CONFIG}")):
        if not is_finished(path):
            continue
        try:
            run = load_run(path)
        except CkfError as error:
            print(f"left out: {path}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        if run.scored_as_configured:
            runs[result_key(run.config)] = run
        else:
            print(f"left out: {path}: scored otherwise than its config says (`ckf evaluate`)", file=sys.stderr)
    return runs


def _same_data(results: dict[str, dict[str, Any]]) -> None:
    """Refuse results on two versions of the data.

    Raises:
        ArtifactError: names two results that differ.
    """
    (first, one), *others = results.items()
    for key, other in others:
        if other["data"] != one["data"]:
            raise ArtifactError(
                f"results {first} and {key} differ in dataset artifact ({one['data']} and {other['data']}); "
                "one table cannot hold both, remove the old"
            )


def _result(trial: Trial, sweep: Sweep, run: Run) -> dict[str, Any]:
    """What the table keeps of a run: enough to render it again and to know where it comes from."""
    return {
        "trial": trial.name,
        "row": {key: _value(run.config, key) for key in sweep.rows},
        "seed": run.config.seed,
        "command": "ckf " + " ".join(trial.overrides),
        "git": run.card.get("git"),
        "versions": run.card.get("versions"),
        "machine": run.card.get("machine"),
        "data": run.card["artifacts"]["dataset"]["hash"],
        "stages": run.card.get("stages"),
        "train": run.card.get("train"),
        "metrics": run.metrics,
    }


def _value(config: ExperimentConfig, key: str) -> Any:
    """Value of a swept key; a group is called by its option's name."""
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return getattr(node, "name", node) if not isinstance(plain(node), list) else plain(node)


def _rendered(folder: Path, sweep: Sweep, done: list[dict[str, Any]], missing: list[str]) -> str:
    machines = sorted(
        {f"{r['machine']['cores']} cores, Python {r['machine']['python']}" for r in done if r.get("machine")}
    )
    text = f"# {sweep.title}\n\n{sweep.question}\n\n"
    text += f"Made by `make table-{folder.name}` (base: `{' '.join(sweep.overrides)}`). "
    text += "Mean ± sd over seeds; best mean in bold. Intervals of single runs are in `results/`.\n\n"
    text += markdown_table(_table(sweep, done)) + "\n"
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
    return ", ".join(f"{key}={value}" for key, value in row.items())


def _table(sweep: Sweep, results: list[dict[str, Any]]) -> Table:
    by_row = _by_row(results)
    lines = [*by_row.items(), *_baseline_lines(by_row)]
    cells = [[mean_sd([seeds[s].get(metric) for s in seeds]) for metric in sweep.metrics] for _, seeds in lines]
    for column, metric in enumerate(sweep.metrics):
        best = _best([seeds for _, seeds in lines], metric)
        if best is not None:
            cells[best][column] = f"**{cells[best][column]}**"
    rows = [[name, *mine, _seeds(name, seeds)] for (name, seeds), mine in zip(lines, cells, strict=True)]
    rows = [row for row in rows if any(cell != MISSING for cell in row[1:-1])]
    return Table(sweep.title, [" / ".join(sweep.rows), *(_heading(m) for m in sweep.metrics), "seeds"], rows)


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


def _best(lines: list[Seeds], metric: str) -> int | None:
    """Index of the line with the best mean."""
    means = {}
    for index, seeds in enumerate(lines):
        values = [metrics[metric] for metrics in seeds.values() if metric in metrics]
        if values:
            means[index] = statistics.mean(values) * (-1 if lower_is_better(metric) else 1)
    return max(means, key=lambda index: means[index]) if means else None


def _seeds(name: str, seeds: Seeds) -> str:
    if name.startswith(_BASELINES["floor"]):
        return "any"
    return "1 (single seed)" if len(seeds) == 1 else str(len(seeds))


def _heading(metric: str) -> str:
    return metric.removeprefix("test/").replace("_minus_text", " minus text-only").replace("_low", ", lower 95%")
