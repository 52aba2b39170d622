"""Launchers: where a trial's process runs. This machine's is here; a cluster's in `ckf.sweep.slurm`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from ckf.config.schema import LocalLauncherConfig
from ckf.sweep.trial_folder import LOG, TrialSpec


class JobHandle(Protocol):
    """A trial that was started."""

    def ended(self) -> str | None:
        """None while it runs; afterwards the system's reason for its end, or "" after exit status 0."""

    def stop(self, *, now: bool) -> None:
        """Ask it to save and stop; ``now``: end it."""


class Launcher(Protocol):
    """Starts trials; ``jobs`` at a time, polled every ``poll_s`` seconds."""

    jobs: int
    poll_s: float

    def start(self, spec: TrialSpec) -> JobHandle:
        """Start the process of a trial."""


class LocalProcess:
    """A trial's process, in a session of its own so that the coordinator decides what signals it gets."""

    def __init__(self, spec: TrialSpec, gpu: int | None, freed: Sequence[int] | None) -> None:
        self.gpu, self._freed = gpu, freed
        visible = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}
        with (spec.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(f"=== {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(spec.command)}\n")
            log.flush()
            self.process = subprocess.Popen(
                spec.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **visible},
            )

    def ended(self) -> str | None:
        """None while it runs; then the exit status or the signal in words."""
        status = self.process.poll()
        if status is None:
            return None
        if self.gpu is not None and isinstance(self._freed, list):
            self._freed.append(self.gpu)
            self._freed = None
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        return f"exit status {status}" if status else ""

    def stop(self, *, now: bool) -> None:
        """Signal the process and those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL if now else signal.SIGINT)


class LocalLauncher:
    """Processes on this machine."""

    poll_s = 0.1

    def __init__(self, cfg: LocalLauncherConfig) -> None:
        self.jobs = cfg.jobs
        self._gpus = list(cfg.gpus) or None

    def start(self, spec: TrialSpec) -> JobHandle:
        """Start a process, on a GPU of its own where the config names GPUs."""
        gpu = self._gpus.pop(0) if self._gpus is not None else None
        return LocalProcess(spec, gpu, self._gpus)
