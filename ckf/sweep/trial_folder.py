"""A trial's folder: what to run, what its process reported, and how it ended.

The coordinator writes ``order.json`` and the resolved ``config.yaml``; the trial's process reads them on any machine,
appends to ``log.txt`` and writes ``outcome.json``. So a trial can be judged, and run again, from its
folder alone.
"""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ckf.config.compose import load_yaml, to_yaml
from ckf.config.schema import ExperimentConfig
from ckf.config.sweep_file import Trial
from ckf.core.artifact_store import ARTIFACT_FILE, read_json, to_jsonable, write_json
from ckf.core.errors import ArtifactError, CkfError
from ckf.runs.folder import CONFIG, METADATA, METRICS

ORDER, OUTCOME, LOG, STARTED = "order.json", "outcome.json", "log.txt", ".started"
DONE, ALREADY_DONE, FAILED, INTERRUPTED, WAITING = "done", "already done", "failed", "interrupted", "not started"
STATES = (DONE, ALREADY_DONE, FAILED, INTERRUPTED, WAITING)


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended: its state, the seconds it took, its run folder, and the reason where it failed."""

    state: str
    seconds: float = 0.0
    run: str = ""
    reason: str = ""


@dataclass(frozen=True)
class TrialSpec:
    """A trial as it is given to a launcher: its folder holds all that its process needs."""

    trial: Trial
    config: ExperimentConfig
    folder: Path

    @property
    def command(self) -> list[str]:
        """The trial's process."""
        return [sys.executable, "-m", "ckf.sweep.trial_process", str(self.folder)]

    def write(self, verb: str) -> None:
        """Write what is to be run; log and result of earlier attempts stay."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / CONFIG).write_text(to_yaml(self.config), encoding="utf-8")
        write_json(
            self.folder / ORDER, {"name": self.trial.name, "verb": verb, "overrides": list(self.trial.overrides)}
        )

    def result(self) -> TrialResult | None:
        """How the last attempt ended; None while there is none, or where its process died before it could say."""
        return read_result(self.folder)

    def clear(self) -> None:
        """Remove the result of an earlier attempt."""
        (self.folder / OUTCOME).unlink(missing_ok=True)


def make_trial_spec(place: Path, number: int, trial: Trial, config: ExperimentConfig) -> TrialSpec:
    """The specification of a trial, in a folder below ``place`` with its number and name."""
    slug = re.sub(r"[^\w.=-]+", "_", trial.name)[:100]
    return TrialSpec(trial, config, place / f"{number:03d}-{slug}")


def read_result(folder: Path) -> TrialResult | None:
    """The result that a trial's process wrote, or None."""
    try:
        return TrialResult(**read_json(folder / OUTCOME))
    except ArtifactError:
        return None


def run_trial(folder: Path, stages: Mapping[str, Callable[[ExperimentConfig], Path]]) -> TrialResult:
    """Run a trial in this process and write how it ended. Another process of the same trial is waited for.

    A trial whose run is finished is found by the stage itself, under the run's own lock; that nothing was written is
    how it shows here.
    """
    with FileLock(folder / ".lock"):
        (folder / OUTCOME).unlink(missing_ok=True)
        (folder / STARTED).touch()
        since, begun = (folder / STARTED).stat().st_mtime_ns, time.perf_counter()

        def result(state: str, run: str = "", reason: str = "") -> TrialResult:
            return TrialResult(state, round(time.perf_counter() - begun, 2), run, reason)

        try:
            run = stages[read_json(folder / ORDER)["verb"]](load_yaml(folder / CONFIG))
            ended = result(DONE if _written_since(run, since) else ALREADY_DONE, str(run))
        except CkfError as error:
            for line in str(error).splitlines():
                print(f"ckf: {line}", file=sys.stderr)
            ended = result(FAILED, reason=_first_line(error))
        except KeyboardInterrupt:
            ended = result(INTERRUPTED, reason="interrupted; the same command continues it")
        except Exception as error:  # a fault of ours or of the machine: the log has it whole, the sweep goes on
            traceback.print_exc()
            ended = result(FAILED, reason=f"{type(error).__name__}: {_first_line(error)}")
        write_json(folder / OUTCOME, to_jsonable(ended))
    return ended


def _written_since(run: Path, moment_ns: int) -> bool:
    """Whether a run's or an artifact's last file is newer than a moment, by the clock of the file system."""
    files = [run / name for name in (METRICS, METADATA, ARTIFACT_FILE)]
    return any(path.is_file() and path.stat().st_mtime_ns >= moment_ns for path in files)


def _first_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).splitlines()
    return lines[0] if lines else "no message"
