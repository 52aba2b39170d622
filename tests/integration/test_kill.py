"""Killed at any point, also while a checkpoint is written, a run ends in the same weights bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.integration.conftest import SMALL

STEPS = 300  # more than 20 late kills can use up: a killer on a busy machine wakes up several steps after its moment
SCHEDULE = [*(x for x in SMALL if not x.startswith(("train.max_steps", "train.checkpoint", "train.log"))),
            f"train.max_steps={STEPS}", "train.checkpoint_every_steps=1", "train.log_every_steps=1",
            "baselines.text_only=false"]  # fmt: skip


class Forks:
    """The fork server of `forks.py`."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=(folder / "forks.log").open("w"), text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def start(self, arguments: list[str]) -> int:
        """Start a command; return its pid."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def status(self) -> int:
        """Wait for the command; return its exit status, or minus the signal that ended it."""
        return os.waitstatus_to_exitcode(int(self._line()))

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    server = Forks(tmp_path_factory.mktemp("forks"))
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.wait(timeout=60)


def command(home: Path, outputs: Path) -> list[str]:
    return ["train", *SCHEDULE, f"paths.cache={home / 'cache'}", f"paths.outputs={outputs}"]


def run_of(outputs: Path) -> Path:
    (run,) = outputs.glob("*/config.yaml")
    return run.parent


def weights(run: Path) -> dict[str, torch.Tensor]:
    files = [run / "fusion.safetensors", *sorted(run.glob("adapters/*/adapter_model.safetensors"))]
    return {f"{file.parent.name}/{key}": value for file in files for key, value in load_file(file).items()}


def assert_same(run: Path, whole: Path, steps: int = STEPS) -> None:
    mine, theirs = weights(run), weights(whole)
    assert set(mine) == set(theirs)
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    logged = [[json.loads(x) for x in (r / "metrics.jsonl").read_text().splitlines()] for r in (run, whole)]
    assert [line["step"] for line in logged[0]] == list(range(steps)), "each step of the schedule once"
    assert logged[0] == logged[1]


@pytest.fixture(scope="module")
def whole(home: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("whole")
    forks.start(command(home, outputs))
    assert forks.status() == 0
    return run_of(outputs)


def kill_after(pid: int, outputs: Path, steps: int, delay: float, *, while_writing: bool) -> None:
    """SIGKILL once the run has logged ``steps`` more steps and ``delay`` seconds, or then while it writes."""
    start, process = logged(outputs), Path(f"/proc/{pid}")
    while process.exists() and logged(outputs) < start + steps:
        time.sleep(0.002)
    time.sleep(delay)
    while process.exists() and while_writing and not list(outputs.glob("*/checkpoints/last.writing")):
        time.sleep(0.0005)
    with contextlib.suppress(ProcessLookupError):  # a run that has ended is told by its status
        os.kill(pid, signal.SIGKILL)


def logged(outputs: Path) -> int:
    """Lines of metrics.jsonl so far; a resumed run first cuts them back to its checkpoint."""
    return sum(path.read_bytes().count(b"\n") for path in outputs.glob("*/metrics.jsonl"))


@pytest.mark.slow
def test_twenty_kills_at_random_points_change_nothing(home, forks, whole, tmp_path):
    draw = np.random.default_rng(0)
    for kill in range(20):
        pid = forks.start(command(home, tmp_path))
        kill_after(pid, tmp_path, int(draw.integers(0, 3)), draw.uniform(0, 0.1), while_writing=kill % 4 == 3)
        assert forks.status() == -signal.SIGKILL, "the run ended first: the schedule is too short for 20 kills"
    assert not list(tmp_path.glob("*/fusion.safetensors"))
    forks.start(command(home, tmp_path))
    assert forks.status() == 0
    assert_same(run_of(tmp_path), whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_continues(home, forks, whole, tmp_path, number):
    pid = forks.start(command(home, tmp_path))
    while Path(f"/proc/{pid}").exists() and not list(tmp_path.glob("*/checkpoints/last.ckpt")):
        time.sleep(0.01)
    os.kill(pid, number)
    assert forks.status() == 1
    run = run_of(tmp_path)
    assert not (run / "fusion.safetensors").exists(), "stopped before its end"
    forks.start(command(home, tmp_path))
    assert forks.status() == 0
    assert_same(run, whole)


@pytest.mark.slow
def test_training_again_keeps_a_trained_model(home, forks, whole, tmp_path):
    """`ckf train` twice, as before `ckf` scores: the second finds the last checkpoint at the end of the schedule."""
    for _ in range(2):
        forks.start(command(home, tmp_path))
        assert forks.status() == 0
    assert_same(run_of(tmp_path), whole)
