"""A table of ``experiments/<name>``: results gathered from run folders, kept beside the sweep, rendered from there."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from ckf.artifacts import plain, read_json, write_json
from ckf.config.compose import compose, load_yaml
from ckf.config.schema import ExperimentConfig
from ckf.errors import ArtifactError
from ckf.report.build import markdown_table, mean_sd
from ckf.report.collect import Run, load_run
from ckf.report.content import Table
from ckf.runs import CONFIG, METRICS, result_key
from ckf.sweep import Sweep, Trial, file_trials, load_sweep

RESULTS = "results"
_BASELINES = {"text": "text-only", "cf": "CF model", "floor": "bias floor"}


def render_table(folder: Path, outputs: Path) -> Path:
    """Copy the sweep's finished runs into ``folder/results`` and write ``folder/RESULTS.md`` from them.

    A result that is already kept counts as done when its run folder is gone.

    Raises:
        ArtifactError: nothing is finished yet.
    """
    sweep = load_sweep(folder / "sweep.yaml")
    trials = file_trials(sweep)
    configs = [compose(list(trial.overrides))[0] for trial in trials]
    finished = _finished_runs(outputs)
    (folder / RESULTS).mkdir(exist_ok=True)
    results: list[dict[str, Any] | None] = []
    for trial, config in zip(trials, configs, strict=True):
        key = result_key(config)
        path = folder / RESULTS / f"{key}.json"
        if key in finished:
            write_json(path, _result(trial, sweep, load_run(finished[key])))
        results.append(read_json(path) if path.is_file() else None)
    if not any(results):
        raise ArtifactError(
            f"{folder}: no run of its sweep is finished; `ckf sweep {folder / 'sweep.yaml'}` makes them"
        )
    target = folder / "RESULTS.md"
    target.write_text(_rendered(folder, sweep, trials, results), encoding="utf-8")
    return target


def _finished_runs(outputs: Path) -> dict[str, Path]:
    runs = {}
    for config in sorted(outputs.glob(f"*/{CONFIG}")):
        if (config.parent / METRICS).is_file():
            runs[result_key(load_yaml(config))] = config.parent
    return runs


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


def _rendered(folder: Path, sweep: Sweep, trials: list[Trial], results: list[dict[str, Any] | None]) -> str:
    done = [result for result in results if result is not None]
    missing = [trial.name for trial, result in zip(trials, results, strict=True) if result is None]
    machines = sorted(
        {f"{r['machine']['cores']} cores, Python {r['machine']['python']}" for r in done if r.get("machine")}
    )
    text = f"# {sweep.title}\n\n{sweep.question}\n\n"
    text += f"Made by `make table-{folder.name}` (base: `{' '.join(sweep.overrides)}`). "
    text += "Mean ± sd over seeds; best mean in bold. Intervals of single runs are in `results/`.\n\n"
    text += markdown_table(_table(sweep, done)) + "\n"
    if missing:
        text += f"\nNot finished: {', '.join(missing)}.\n"
    commits = sorted({str(r["git"]) for r in done})
    text += f"\nMachine: {'; '.join(machines) or platform.machine()}. Commit: {', '.join(commits)}.\n"
    return text


def _table(sweep: Sweep, results: list[dict[str, Any]]) -> Table:
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(", ".join(f"{key}={value}" for key, value in result["row"].items()), []).append(result)
    cells = {
        row: [mean_sd([member["metrics"].get(metric) for member in members]) for metric in sweep.metrics]
        for row, members in groups.items()
    }
    for column, metric in enumerate(sweep.metrics):
        best = _best_row(groups, metric)
        if best is not None:
            cells[best][column] = f"**{cells[best][column]}**"
    rows = [[row, *cells[row], _seeds(members)] for row, members in groups.items()]
    for source, name in _BASELINES.items():
        values = [_baseline(results, source, metric) for metric in sweep.metrics]
        if any(any(v is not None for v in column) for column in values):
            rows.append([name, *(mean_sd(column) for column in values), ""])
    return Table(sweep.title, [" / ".join(sweep.rows), *(_heading(m) for m in sweep.metrics), "seeds"], rows)


def _baseline(results: list[dict[str, Any]], source: str, metric: str) -> list[float | None]:
    """One value a seed: the baselines are the same in every row of the table."""
    by_seed: dict[int, float | None] = {}
    for result in results:
        value = result["metrics"].get(f"{source}/{metric}")
        if value is not None:
            by_seed[result["seed"]] = value
    values = list(by_seed.values())
    return values[:1] if len(set(values)) == 1 else values


def _best_row(groups: dict[str, list[dict[str, Any]]], metric: str) -> str | None:
    lower_is_better = any(word in metric for word in ("rmse", "mae", "logloss", "ece"))
    means = {}
    for row, members in groups.items():
        values = [m["metrics"][metric] for m in members if metric in m["metrics"]]
        if values:
            means[row] = sum(values) / len(values) * (-1 if lower_is_better else 1)
    return max(means, key=lambda row: means[row]) if means else None


def _seeds(members: list[dict[str, Any]]) -> str:
    return "1 (single seed)" if len(members) == 1 else str(len(members))


def _heading(metric: str) -> str:
    return metric.removeprefix("test/").replace("_minus_text", " minus text-only")
