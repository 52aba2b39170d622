"""The coordinator: keeps a launcher busy, collects how trials ended, and says it as it is."""

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
    """Runs orders and keeps their outcomes. Ctrl-C and SIGTERM reach the trials, which save; a second one ends them."""

    def __init__(self, launcher: Launcher, total: int, say: Callable[[str], None]) -> None:
        self.launcher, self.total, self.say = launcher, total, say
        self.outcomes: list[tuple[TrialSpec, TrialResult]] = []
        self.stopping = ""
        self._running: dict[int, tuple[TrialSpec, JobHandle, float]] = {}
        self._signals = 0

    def found(self, order: TrialSpec, where: Path) -> None:
        """Note a trial whose result is kept already."""
        self._note(order, TrialResult(ALREADY_DONE, run=str(where)), f"kept in {where}")

    def run(self, orders: Sequence[TrialSpec]) -> list[TrialResult]:
        """Run orders, ``launcher.jobs`` at a time; return their outcomes in the order asked."""
        waiting = list(orders)
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self._running or (waiting and not self.stopping):
                while waiting and len(self._running) < self.launcher.jobs and not self.stopping:
                    order = waiting.pop(0)
                    order.clear()
                    self._running[id(order)] = (order, self.launcher.start(order), time.perf_counter())
                if not self._collect():
                    time.sleep(self.launcher.poll_s)
        except BaseException:
            self._stop_all(now=True)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        for order in waiting:
            self.outcomes.append((order, TrialResult(WAITING)))
        ended = {id(order): outcome for order, outcome in self.outcomes}
        return [ended[id(order)] for order in orders]

    def _collect(self) -> bool:
        """Take in what has ended; whether anything had."""
        said_of = {key: launched.ended() for key, (_, launched, _) in self._running.items()}
        news = {key: said for key, said in said_of.items() if said is not None}
        for key, said in news.items():
            order, _, begun = self._running.pop(key)
            self._judge(order, said, time.perf_counter() - begun)
        return bool(news)

    def _judge(self, order: TrialSpec, said: str, seconds: float) -> None:
        """A trial's own word counts; one that died without a word failed, whatever its launcher says."""
        outcome = order.outcome() or TrialResult(FAILED, seconds, reason=said or "ended without an outcome")
        if self._signals and outcome.state == FAILED:
            outcome = replace(outcome, state=INTERRUPTED)
        log = f"{order.folder / LOG}: " if outcome.state in (FAILED, INTERRUPTED) else ""
        self._note(order, outcome, log + (outcome.reason or outcome.run))
        if not self.stopping and self._is_hopeless():
            self.stopping = f"stopped: the first {MAX_IDENTICAL_FAILURES} trials that ran all failed in the same way"
            self.say(f"sweep: {self.stopping} ({outcome.reason})")

    def _note(self, order: TrialSpec, outcome: TrialResult, detail: str) -> None:
        self.outcomes.append((order, outcome))
        place = f"[{len(self.outcomes)}/{self.total}] {order.trial.name}"
        self.say(f"{place}: {outcome.state} in {outcome.seconds:.1f} s; {detail}")

    def _is_hopeless(self) -> bool:
        states = [outcome for _, outcome in self.outcomes]
        failed = [_pattern(outcome.reason) for outcome in states if outcome.state == FAILED]
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
        states = Counter(outcome.state for _, outcome in self.outcomes)
        states[WAITING] += self.total - len(self.outcomes)
        return {state: states[state] for state in STATES}

    def summarise(self, place: Path, head: dict[str, Any]) -> None:
        """Print and write the summary.

        Raises:
            CkfError: a trial failed or was not started.
            KeyboardInterrupt: the sweep was interrupted.
        """
        counts = self.counts()
        trials = [
            {"trial": order.trial.name, "folder": order.folder.name, **to_jsonable(o)} for order, o in self.outcomes
        ]
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
