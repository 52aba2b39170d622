"""Two processes train as one does: the same losses step by step, from the same global batches."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.conftest import SMALL
from tests.integration.test_kill import assert_same, logged, run_of
from tests.integration.test_surroundings import ckf

STEPS, LONGER = 20, 60


def losses(home: Path, name: str, *overrides: str) -> list[float]:
    small = [x for x in SMALL if not x.startswith(("train.max_steps", "train.log_every"))]
    done = ckf(
        "train", *small, f"train.max_steps={STEPS}", "train.log_every_steps=1", "baselines.text_only=false",
        f"paths.cache={home / 'cache'}", f"paths.outputs={home / name}", *overrides, cwd=home, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    run = Path(done.stdout.strip().splitlines()[-1])
    return [json.loads(line)["train/loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(home):
    """Normalised by the global batch's answer tokens; a loss by rank, bucket or micro-batch would differ at once."""
    one = losses(home, "one")
    assert len(one) == STEPS
    assert losses(home, "two", "trainer=ddp_cpu") == pytest.approx(one, abs=1e-5)
    sharded = losses(home, "sharded", "trainer=fsdp", "trainer.accelerator=cpu", "trainer.precision=32-true")
    assert sharded == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="finds the other process in Linux's /proc")
@pytest.mark.parametrize("dies", ["0", "1"])
def test_a_process_that_dies_ends_the_job(home, tmp_path, dies):
    """Whichever of the two is killed, the command ends with a status that is not 0 and leaves nobody behind."""
    small = [x for x in SMALL if not x.startswith(("train.max_steps", "train.log_every"))]
    job = subprocess.Popen(
        [sys.executable, "-m", "ckf", "train", *small, "train.max_steps=100000", "train.log_every_steps=1",
         "baselines.text_only=false", "trainer=ddp_cpu", f"paths.cache={home / 'cache'}", f"paths.outputs={tmp_path}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while job.poll() is None and not any(path.stat().st_size for path in tmp_path.glob("*/metrics.jsonl")):
        time.sleep(0.2)
    workers = processes_of(tmp_path)
    assert set(workers) == {"0", "1"}, "two processes train"
    os.kill(workers[dies], signal.SIGKILL)
    assert job.wait(timeout=120) not in (0, None)
    deadline = time.monotonic() + 30
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes_of(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="finds the other process in Linux's /proc")
def test_two_processes_that_are_killed_continue_to_the_same_end(home, tmp_path):
    """Once rank 1 is killed, once rank 0, the second time while the rest of the schedule is already a resumed one."""
    small = [x for x in SMALL if not x.startswith(("train.max_steps", "train.log_every", "train.checkpoint"))]
    broken, whole = tmp_path / "broken", tmp_path / "whole"

    def start(outputs: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "ckf", "train", *small, f"train.max_steps={LONGER}", "train.log_every_steps=1",
             "train.checkpoint_every_steps=3", "baselines.text_only=false", "trainer=ddp_cpu",
             f"paths.cache={home / 'cache'}", f"paths.outputs={outputs}"],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    assert start(whole).wait(timeout=300) == 0
    for rank, steps in (("1", 8), ("0", 20)):
        job = start(broken)
        while job.poll() is None and logged(broken) < steps:
            time.sleep(0.02)
        os.kill(processes_of(broken)[rank], signal.SIGKILL)
        assert job.wait(timeout=120) not in (0, None)
    assert not list(broken.glob("*/fusion.safetensors")), "killed before its end"
    assert start(broken).wait(timeout=300) == 0
    assert_same(run_of(broken), run_of(whole), LONGER)


def processes_of(outputs: Path) -> dict[str, int]:
    """Training processes of the run below a folder, by local rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            command = (folder / "cmdline").read_bytes().decode().split("\0")
            if "ckf.train.distributed.worker" in command and any(str(outputs) in word for word in command):
                given = dict(x.split("=", 1) for x in (folder / "environ").read_text().split("\0") if "=" in x)
                found[given.get("LOCAL_RANK", "0")] = int(folder.name)
    return found
