"""The coordinator: keep a launcher busy, collect how trials ended, and report it."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from ckf.core.artifact_store import to_jsonable, write_json
from ckf.core.errors import CkfError
from ckf.sweep.launchers import JobHandle, Launcher
from ckf.sweep.trial_folder import ALREADY_DONE, DONE, FAILED, INTERRUPTED, LOG, STATES, WAITING, TrialResult, TrialSpec

SUMMARY = "sweep.json"
MAX_IDENTICAL_FAILURES = 3
"""So many identical failures before anything succeeded stop a sweep."""


class Coordinator:
    """Runs trials and keeps their results. Ctrl-C and SIGTERM reach the trials, which save; a second one ends them."""

    def __init__(self, launcher: Launcher, total: int, say: Callable[[str], None]) -> None:
        self.launcher, self.total, self.say = launcher, total, say
        self.results: list[tuple[TrialSpec, TrialResult]] = []
        self.stopping = ""
        self._running: dict[int, tuple[TrialSpec, JobHandle, float]] = {}
        self._signals = 0

    def found(self, spec: TrialSpec, where: Path) -> None:
        """Note a trial whose result is kept already."""
        self._note(spec, TrialResult(ALREADY_DONE, run=str(where)), f"kept in {where}")

    def run(self, specs: Sequence[TrialSpec]) -> list[TrialResult]:
        """Run trials, ``launcher.jobs`` at a time; return their results in the order given."""
        waiting = list(specs)
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self._running or (waiting and not self.stopping):
                while waiting and len(self._running) < self.launcher.jobs and not self.stopping:
                    spec = waiting.pop(0)
                    spec.clear()
                    self._running[id(spec)] = (spec, self.launcher.start(spec), time.perf_counter())
                if not self._collect():
                    time.sleep(self.launcher.poll_s)
        except BaseException:
            self._stop_all(now=True)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        for spec in waiting:
            self.results.append((spec, TrialResult(WAITING)))
        ended = {id(spec): result for spec, result in self.results}
        return [ended[id(spec)] for spec in specs]

    def _collect(self) -> bool:
        """Take in what has ended; whether anything had."""
        ends = {key: launched.ended() for key, (_, launched, _) in self._running.items()}
        news = {key: reason for key, reason in ends.items() if reason is not None}
        for key, reason in news.items():
            spec, _, begun = self._running.pop(key)
            self._judge(spec, reason, time.perf_counter() - begun)
        return bool(news)

    def _judge(self, spec: TrialSpec, reason: str, seconds: float) -> None:
        """Take the trial's own result. A trial that ended without one has failed."""
        result = spec.result() or TrialResult(FAILED, seconds, reason=reason or "ended without a result")
        if self._signals and result.state == FAILED:
            result = replace(result, state=INTERRUPTED)
        log = f"{spec.folder / LOG}: " if result.state in (FAILED, INTERRUPTED) else ""
        self._note(spec, result, log + (result.reason or result.run))
        if not self.stopping and self._is_hopeless():
            self.stopping = f"stopped: the first {MAX_IDENTICAL_FAILURES} trials that ran all failed in the same way"
            self.say(f"sweep: {self.stopping} ({result.reason})")

    def _note(self, spec: TrialSpec, result: TrialResult, detail: str) -> None:
        self.results.append((spec, result))
        place = f"[{len(self.results)}/{self.total}] {spec.trial.name}"
        self.say(f"{place}: {result.state} in {result.seconds:.1f} s; {detail}")

    def _is_hopeless(self) -> bool:
        states = [result for _, result in self.results]
        failed = [_pattern(result.reason) for result in states if result.state == FAILED]
        return len(failed) == len(states) >= MAX_IDENTICAL_FAILURES and len(set(failed[:MAX_IDENTICAL_FAILURES])) == 1

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        self.stopping = "interrupted"
        self._stop_all(now=self._signals > 1)

    def _stop_all(self, *, now: bool) -> None:
        for _, launched, _ in self._running.values():
            launched.stop(now=now)

    # --- the end ------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Number of trials by state."""
        states = Counter(result.state for _, result in self.results)
        states[WAITING] += self.total - len(self.results)
        return {state: states[state] for state in STATES}

    def summarise(self, place: Path, head: dict[str, Any]) -> None:
        """Print and write the summary.

        Raises:
            CkfError: a trial failed or was not started.
            KeyboardInterrupt: the sweep was interrupted.
        """
        counts = self.counts()
        trials = [{"trial": spec.trial.name, "folder": spec.folder.name, **to_jsonable(o)} for spec, o in self.results]
        write_json(place / SUMMARY, {**head, "counts": counts, "trials": trials})
        shown = {state: n for state, n in counts.items() if n or state in (DONE, ALREADY_DONE, FAILED)}
        self.say("sweep: " + ", ".join(f"{n} {state}" for state, n in shown.items()))
        if self._signals:
            raise KeyboardInterrupt
        if missing := self.total - counts[DONE] - counts[ALREADY_DONE]:
            what = f"{counts[FAILED]} of {self.total} trials failed"
            what += f", {missing - counts[FAILED]} were not started" if missing > counts[FAILED] else ""
            raise CkfError(f"{what}; their logs are in {place}. The same command runs what is missing")


def _pattern(reason: str) -> str:
    """A failure without what is the trial's own: paths and numbers."""
    return re.sub(r"\S*/\S*|\d+(\.\d+)?", "#", reason)
