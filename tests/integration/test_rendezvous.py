"""The whole command under torchrun, and who does what among the ranks of a cluster's job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckf.config.compose import compose
from ckf.core.artifact_store import write_json
from ckf.core.errors import CkfError
from ckf.train.distributed import rendezvous as ranks
from tests.integration.conftest import SMALL

SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


def test_who_is_who() -> None:
    assert ranks.membership({}) is None
    assert ranks.membership({**SLURM, "SLURM_NTASKS": "1"}) is None, "one task starts its own processes"
    me = ranks.membership(SLURM)
    assert me is not None
    assert (me.rank, me.size) == (3, 4)
    first = ranks.membership({**SLURM, "SLURM_PROCID": "0"})
    other = ranks.membership({**SLURM, "SLURM_JOB_ID": "78"})
    assert first is not None
    assert other is not None
    assert first.job == me.job != other.job
    assert ranks.membership(TORCHRUN) is not None
    with pytest.raises(CkfError, match="--rdzv-id"):
        ranks.membership({**TORCHRUN, "LOCAL_WORLD_SIZE": "1"})


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    exp = compose(["trainer=ddp_cpu", f"paths.outputs={tmp_path}"])[0]

    def become(rank: int) -> Path:
        for key, value in {**SLURM, "SLURM_NTASKS": "2", "SLURM_PROCID": str(rank)}.items():
            monkeypatch.setenv(key, value)
        me = ranks.membership(os.environ)
        assert me is not None
        return ranks.meeting_place(exp, me)

    return exp, become


def test_rank_0_works_and_the_others_return_its_folder(in_a_job) -> None:
    exp, become = in_a_job
    become(0)
    assert ranks.on_first_rank(exp, lambda: Path("run")) == Path("run")
    become(1)
    assert ranks.on_first_rank(exp, lambda: pytest.fail("rank 1 works")) == Path("run")


def test_a_failure_of_rank_0_reaches_the_others(in_a_job) -> None:
    exp, become = in_a_job
    become(0)
    with pytest.raises(ZeroDivisionError):
        ranks.on_first_rank(exp, lambda: Path(str(1 // 0)))
    become(1)
    with pytest.raises(CkfError, match="rank 0 failed"):
        ranks.on_first_rank(exp, lambda: Path())


def test_the_others_join_a_training_at_its_port(in_a_job, monkeypatch: pytest.MonkeyPatch) -> None:
    exp, become = in_a_job
    place = become(1)
    place.mkdir()
    write_json(place / "0000.json", {"train": "run", "port": "4711"})
    write_json(place / "0001.json", {"done": "run"})
    calls = []

    def run(command, env, check):
        calls.append((command[1:], env["MASTER_PORT"]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(ranks.subprocess, "run", run)
    assert ranks.on_first_rank(exp, lambda: Path()) == Path("run")
    assert calls == [(["-m", "ckf.train.distributed.worker", "run"], "4711")]


def test_more_processes_than_asked_for_are_refused(in_a_job) -> None:
    _, become = in_a_job
    become(0)
    with pytest.raises(CkfError, match=r"2 processes run this command, but trainer.devices 1 \* trainer.num_nodes 1"):
        ranks.on_first_rank(compose([])[0], lambda: Path())


def test_processes_started_here_know_nothing_of_an_outer_job(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def run(command, env, check):
        seen.update(env)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(ranks.subprocess, "run", run)
    for key, value in {**SLURM, "SLURM_NTASKS": "1", "MASTER_PORT": "1", "NODE_RANK": "5"}.items():
        monkeypatch.setenv(key, value)
    ranks.train_together(compose(["trainer=ddp_cpu"])[0], Path("run"))
    assert seen["MASTER_PORT"] not in ("", "1")
    assert not any(key.startswith("SLURM_") or key == "NODE_RANK" for key in seen)


@pytest.mark.slow
def test_the_main_job_under_torchrun(tmp_path: Path) -> None:
    """Two ranks run the same command: text twin and model are trained by both, everything else is done once."""
    command = ["--nproc-per-node", "2", "-m", "ckf", *SMALL, "trainer=ddp_cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *command],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    folders = [line for line in done.stdout.splitlines() if line.startswith("outputs/synthetic-tiny-meta-")]
    assert len(folders) == 2
    assert len(set(folders)) == 1
    run = tmp_path / folders[0]
    assert json.loads((run / "metrics.json").read_text())["text/test/ctr/auc"] > 0
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == len(set(steps)), "one process writes the log"


@pytest.mark.slow
def test_a_sweep_of_trainings_with_two_processes_each_does_not_hang(tmp_path: Path) -> None:
    """Two trials at a time, each with ranks of its own at a port of its own, whatever the outer environment says."""
    command = ["-m", "ckf", "-m", *SMALL, "trainer=ddp_cpu", "baselines.text_only=false", "seed=0,1", "--jobs", "2"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1500,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": "29500", "MASTER_ADDR": "127.0.0.1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "sweep: 2 done, 0 already done, 0 failed" in done.stdout
    assert len(list(tmp_path.glob("outputs/synthetic-tiny-meta-*/metrics.json"))) == 2
