"""Sweeps: a grid of overrides, all checked before the first starts, then one process for each trial."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from ckf.artifacts import fingerprint
from ckf.config.compose import compose
from ckf.config.sweep_file import VARIANT, Sweep, load_sweep
from ckf.errors import CkfError, ConfigError
from ckf.runs import result_key

__all__ = [
    "VARIANT",
    "Outcome",
    "Sweep",
    "Trial",
    "check_trials",
    "expand",
    "file_trials",
    "load_sweep",
    "run_file",
    "run_multirun",
    "run_trial",
    "trial_command",
]


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: its overrides, the swept ones of them as its name, and the variant it belongs to."""

    name: str
    overrides: tuple[str, ...]
    variant: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: ``done``, ``already done`` or ``failed``, and its run folder or log's last line."""

    state: str
    seconds: float
    detail: str


# --- from a file or a command line to trials --------------------------------------------------


def _written(value: Any) -> str:
    """Write a YAML value in the grammar of overrides; strings stand as they are."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value)


def file_trials(sweep: Sweep, extra: Sequence[str] = ()) -> list[Trial]:
    """Return the trials of a sweep file; ``extra`` overrides come after its own."""
    axes = [[f"{key}={_written(value)}" for value in values] for key, values in sweep.grid.items()]
    if not sweep.variants:
        return _product([*sweep.overrides, *extra], axes)
    return [
        Trial(f"{variant.name} {trial.name}", trial.overrides, variant.name)
        for variant in sweep.variants
        for trial in _product([*sweep.overrides, *variant.overrides, *extra], axes)
    ]


def expand(overrides: Sequence[str]) -> list[Trial]:
    """Return the trials of a command line: ``key=a,b``, ``key=choice(a,b)`` and ``key=range(1,4)`` are swept.

    Raises:
        ConfigError: an override that cannot be read, or a sweep without end (``interval``).
    """
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    problems: list[str] = []
    parser = OverridesParser.create()
    for line in overrides:
        try:
            override = parser.parse_override(line)
        except HydraException as error:
            problems.append(f"{line}: cannot be read ({str(error).splitlines()[0]})")
            continue
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(line)
        elif override.is_discrete_sweep() and "glob(" not in line:
            axes[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            problems.append(f"{line}: only lists, choice() and range() can be swept")
    if problems:
        raise ConfigError(problems)
    return _product(fixed, list(axes.values()))


def _product(fixed: Sequence[str], axes: list[list[str]]) -> list[Trial]:
    return [Trial(" ".join(point) or "single run", (*fixed, *point)) for point in itertools.product(*axes)]


def check_trials(trials: Sequence[Trial], config_dir: Path | None = None) -> Path:
    """Compose every trial, so that none is refused after hours; return the folder that outputs go to.

    Raises:
        ConfigError: each problem once, with the trials that have it.
    """
    found: dict[str, list[str]] = {}
    outputs = Path("outputs")
    for trial in trials:
        try:
            outputs = Path(compose(trial.overrides, config_dir)[0].paths.outputs)
        except ConfigError as error:
            for line in error.problems:
                found.setdefault(line, []).append(trial.name)
    if found:
        raise ConfigError([f"trial {_names(names, len(trials))}: {line}" for line, names in found.items()])
    return outputs


def _names(names: list[str], total: int) -> str:
    if len(names) == total > 1:
        return f"'{names[0]}' and all others"
    return f"'{names[0]}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


# --- running them -----------------------------------------------------------------------------


def run_file(path: Path, overrides: Sequence[str], config_dir: Path | None, jobs: int) -> Path:
    """Run a sweep file's trials; return the folder of their logs.

    A trial whose result is kept beside the file (``results/``, from which the table is rendered)
    counts as done, unless ``force=true`` is among the overrides.
    """
    trials = file_trials(load_sweep(path), overrides)
    name = path.parent.name if path.stem == "sweep" else path.stem
    kept = None if "force=true" in overrides else path.parent / "results"
    return _run("", name, trials, config_dir, jobs, kept)


def run_multirun(verb: str, overrides: Sequence[str], config_dir: Path | None, jobs: int) -> Path:
    """Run ``ckf -m``; return the folder of the logs."""
    trials = expand(overrides)
    return _run(verb, verb or "multirun", trials, config_dir, jobs)


def _run(
    verb: str, name: str, trials: list[Trial], config_dir: Path | None, jobs: int, kept: Path | None = None
) -> Path:
    outputs = check_trials(trials, config_dir)
    logs = outputs / "sweeps" / f"{name}-{fingerprint(verb, [trial.overrides for trial in trials])[:8]}"
    logs.mkdir(parents=True, exist_ok=True)
    print(f"sweep: {len(trials)} trials, {jobs} at a time; logs in {logs}", flush=True)
    states: Counter[str] = Counter()

    def one(number: int, trial: Trial) -> None:
        slug = re.sub(r"[^\w.=-]+", "_", trial.name)[:100]
        outcome = _kept(trial, config_dir, kept) or run_trial(
            trial_command(verb, trial, config_dir), logs / f"{number:03d}-{slug}.log"
        )
        states[outcome.state] += 1
        place = f"[{number}/{len(trials)}] {trial.name}"
        print(f"{place}: {outcome.state} in {outcome.seconds:.1f} s; {outcome.detail}", flush=True)

    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        for future in [pool.submit(one, number, trial) for number, trial in enumerate(trials, 1)]:
            future.result()
    finally:  # on Ctrl-C the running trials get the signal too; those that wait are dropped
        pool.shutdown(cancel_futures=True)
    summary = ", ".join(f"{states[state]} {state}" for state in ("done", "already done", "failed"))
    print(f"sweep: {summary}", flush=True)
    if states["failed"]:
        raise CkfError(f"{states['failed']} of {len(trials)} trials failed; their logs are in {logs}")
    return logs


def _kept(trial: Trial, config_dir: Path | None, folder: Path | None) -> Outcome | None:
    """The outcome of a trial whose result is kept in ``folder``."""
    if folder is None or not folder.is_dir():
        return None
    result = folder / f"{result_key(compose(trial.overrides, config_dir)[0])}.json"
    return Outcome("already done", 0.0, f"kept in {result}") if result.is_file() else None


def trial_command(verb: str, trial: Trial, config_dir: Path | None) -> list[str]:
    """Return the command of a trial's own process."""
    command = [sys.executable, "-m", "ckf", *([verb] if verb else []), *trial.overrides]
    return command + (["--config-dir", str(config_dir)] if config_dir else [])


def run_trial(command: list[str], log: Path) -> Outcome:
    """Run one process with its output in ``log``; its last line on stdout is the run folder."""
    began, start = time.time(), time.perf_counter()
    with log.open("w", encoding="utf-8") as file, ThreadPoolExecutor(max_workers=2) as pipes:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        said = pipes.submit(_copy, process.stdout, file)
        complained = pipes.submit(_copy, process.stderr, file)
        status = process.wait()
        folder, reason = said.result(), complained.result()
    seconds = time.perf_counter() - start
    if status:
        return Outcome("failed", seconds, f"exit status {status}, {log}: {reason or folder or 'no output'}")
    metrics = Path(folder) / "metrics.json"
    before = metrics.is_file() and metrics.stat().st_mtime < began
    return Outcome("already done" if before else "done", seconds, folder)


def _copy(source: IO[str] | None, target: IO[str]) -> str:
    """Copy lines as they come; return the last that is not empty."""
    last = ""
    for line in source or ():
        target.write(line)
        target.flush()
        last = line.strip() or last
    return last
