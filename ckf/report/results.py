"""Results of a sweep: gathered from run folders and kept as JSON beside it, so that its table outlives the runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ckf.artifacts import plain, read_json, write_json
from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig
from ckf.errors import ArtifactError, CkfError
from ckf.report.collect import Run, load_run
from ckf.runs import CONFIG, is_finished, result_key
from ckf.sweep import VARIANT, Sweep, Trial, file_trials

RESULTS = "results"
_FINE = re.compile(r"@(users_q|items_q|position_)")
"""Slices that no table shows; the run folder has them."""


def gather_results(folder: Path, sweep: Sweep, outputs: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Copy the sweep's finished runs into ``folder/results``; return every kept result and the trials without one.

    A result that is already kept counts as done when its run folder is gone.

    Raises:
        ArtifactError: nothing is finished yet, or two results are of different data.
    """
    trials = file_trials(sweep)
    keys = [result_key(compose(list(trial.overrides))[0]) for trial in trials]
    finished = _finished_runs(outputs)
    kept = folder / RESULTS
    results: dict[str, dict[str, Any]] = {}
    for trial, key in zip(trials, keys, strict=True):
        if key in finished:
            results[key] = _result(trial, sweep, finished[key])
        elif (kept / f"{key}.json").is_file():
            results[key] = read_json(kept / f"{key}.json")
    if not results:
        raise ArtifactError(
            f"{folder}: no run of its sweep is finished; `ckf sweep {folder / 'sweep.yaml'}` makes them"
        )
    _same_data(results)
    kept.mkdir(exist_ok=True)
    for key, result in results.items():
        write_json(kept / f"{key}.json", result)
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
        "row": {key: trial.variant if key == VARIANT else _value(run.config, key) for key in sweep.rows},
        "seed": run.config.seed,
        "command": "ckf " + " ".join(trial.overrides),
        "git": run.card.get("git"),
        "versions": run.card.get("versions"),
        "machine": run.card.get("machine"),
        "data": run.card["artifacts"]["dataset"]["hash"],
        "stages": run.card.get("stages"),
        "train": run.card.get("train"),
        "metrics": {key: value for key, value in run.metrics.items() if not _FINE.search(key)},
    }


def _value(config: ExperimentConfig, key: str) -> Any:
    """Value of a swept key; a group is called by its option's name."""
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return getattr(node, "name", node) if not isinstance(plain(node), list) else plain(node)
