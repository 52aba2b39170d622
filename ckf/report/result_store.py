"""Results of a sweep: gathered from run folders and kept as JSON beside it, so that its table outlives the runs."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig
from ckf.config.sweep_file import VARIANT, Sweep, Trial, file_trials, results_folder
from ckf.core.artifact_store import fingerprint, read_json, to_jsonable, write_json
from ckf.core.errors import ArtifactError, CkfError
from ckf.report.cost import cost_metrics
from ckf.report.load_runs import Run, load_run
from ckf.runs.folder import CONFIG, is_finished, result_key

_FINE = re.compile(r"@(users_q|items_q|position_)")
"""Slices that are kept only where the sweep's table shows them; the run folder has all."""


@dataclass(frozen=True)
class Result:
    """A kept result: its row and seed, its metrics (cost included), the record as it is kept, and its run if here."""

    key: str
    row: dict[str, Any]
    seed: int
    metrics: dict[str, float]
    record: dict[str, Any]
    config: ExperimentConfig
    run: Run | None = None


def gather_results(path: Path, sweep: Sweep, outputs: Path) -> tuple[list[Result], list[str]]:
    """Copy a sweep file's finished runs beside it; return every kept result and the trials without one.

    A result that is already kept counts as done when its run folder is gone.

    Raises:
        ArtifactError: nothing is finished yet, or two results are of different data.
    """
    trials = file_trials(sweep)
    configs = [compose(list(trial.overrides))[0] for trial in trials]
    keys = [result_key(config) for config in configs]
    finished, kept = _finished_runs(outputs), results_folder(path)
    results: dict[str, Result] = {}
    for trial, key, config in zip(trials, keys, configs, strict=True):
        run, file = finished.get(key), kept / f"{key}.json"
        if run is None and not file.is_file():
            continue
        record = _record(trial, config, sweep, run) if run is not None else read_json(file)
        metrics = {**record["metrics"], **cost_metrics(record)}
        results[key] = Result(key, record["row"], record["seed"], metrics, record, config, run)
    if not results:
        raise ArtifactError(f"{path.parent}: no run of its sweep is finished; `ckf sweep {path}` makes them")
    _same_data(list(results.values()))
    kept.mkdir(exist_ok=True)
    for key, result in results.items():
        write_json(kept / f"{key}.json", result.record)
    return list(results.values()), [trial.name for trial, key in zip(trials, keys, strict=True) if key not in results]


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


def data_name(config: ExperimentConfig) -> str:
    """What the data of a result is made from; rows may differ in it only where the sweep says so."""
    dataset = {key: value for key, value in to_jsonable(config.dataset).items() if key not in ("root", "memory_mb")}
    return fingerprint(dataset, config.split)


def _same_data(results: list[Result]) -> None:
    """Refuse results on two versions of the same data.

    Raises:
        ArtifactError: names two results that differ.
    """
    first: dict[str, Result] = {}
    for result in results:
        one = first.setdefault(data_name(result.config), result)
        if result.record["data"] != one.record["data"]:
            raise ArtifactError(
                f"results {one.key} and {result.key} differ in dataset artifact ({one.record['data']} and "
                f"{result.record['data']}); one table cannot hold both, remove the old"
            )


def _record(trial: Trial, config: ExperimentConfig, sweep: Sweep, run: Run) -> dict[str, Any]:
    """What the table keeps of a run: enough to render it again and to know where it comes from.

    The row is the trial's: its run may have been another method's companion, of the same config but for the label.
    """
    shown = tuple(sweep.metrics)
    return {
        "trial": trial.name,
        "row": {key: trial.variant if key == VARIANT else _value(config, key) for key in sweep.rows},
        "seed": run.config.seed,
        "command": "ckf " + " ".join(trial.overrides),
        "git": run.card.get("git"),
        "versions": run.card.get("versions"),
        "machine": run.card.get("machine"),
        "data": run.card["artifacts"]["dataset"]["hash"],
        "stages": run.card.get("stages"),
        "train": run.card.get("train"),
        "metrics": {key: value for key, value in run.metrics.items() if not _FINE.search(key) or key.endswith(shown)},
    }


def _value(config: ExperimentConfig, key: str) -> Any:
    """Value of a swept key; a group is called by its option's name."""
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return getattr(node, "name", node) if not isinstance(to_jsonable(node), list) else to_jsonable(node)
