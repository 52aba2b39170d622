"""What surrounds training: W&B offline, two processes, a process that dies, and failing input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ckf.core.artifact_store import Store, read_json
from ckf.tracking.loggers import wandb_is_offline
from tests.integration.conftest import SMALL, run_small


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a W&B login."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_without_a_login_wandb_stays_offline(no_login, monkeypatch):
    assert wandb_is_offline("auto")
    assert wandb_is_offline("offline")
    assert not wandb_is_offline("online")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert not wandb_is_offline("auto")


def test_a_training_is_one_offline_wandb_run(home, no_login):
    run = run_small(home, "logger=wandb", "baselines.text_only=false", "train.max_steps=9")
    (folder,) = (run / "wandb").glob("offline-run-*")
    (file,) = folder.glob("run-*.wandb")
    content = file.read_bytes()
    assert b"train/loss" in content
    assert b"test/ctr/auc" in content
    assert b"fusion.meta_hidden" in content
    assert folder.name.endswith(run.name[-100:])
    assert len(read_json(run / "run.json")["artifacts"]) == 5


def ckf(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ckf", *arguments],
        cwd=cwd, capture_output=True, text=True, env={**os.environ, **env}, timeout=500, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_train_and_the_run_is_whole(home):
    done = ckf(
        *SMALL, "trainer=ddp_cpu", "baselines.text_only=false", f"paths.cache={home / 'cache'}",
        f"paths.outputs={home / 'ddp'}", cwd=home, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    run = Path(done.stdout.strip().splitlines()[-1])
    assert "test/ctr/auc" in read_json(run / "metrics.json")
    one = run_small(home, "baselines.text_only=false")
    from safetensors.torch import load_file

    name = "adapters/shared/adapter_model.safetensors"
    two_processes, one_process = load_file(run / name), load_file(one / name)
    for key in one_process:  # the same global batches, summed in another order
        torch.testing.assert_close(two_processes[key], one_process[key], atol=2e-3, rtol=0)


@pytest.mark.slow
def test_a_sweep_runs_each_trial_in_a_process_and_survives_a_failing_one(home):
    done = ckf(
        "-m", *SMALL, "baselines.text_only=false", f"paths.cache={home / 'cache'}", f"paths.outputs={home / 'sweep'}",
        "train.max_length_tokens=16,2048", "fusion=none,linear", cwd=home,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert len(list((home / "sweep").glob("*/metrics.json"))) == 2, done.stdout
    assert done.stdout.count("failed") >= 2


def test_bad_input_ends_with_one_line_and_leaves_nothing(tmp_path):
    done = ckf("dataset=collm_ml1m", f"dataset.root={tmp_path}", "logger=csv", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("ckf: dataset.root:")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("cache/dataset/*"))
    assert not list(tmp_path.glob("outputs/*/metrics.json"))


def test_a_loss_that_is_not_finite_stops_with_step_and_examples(home):
    from ckf.core.errors import CkfError

    line = r"step \d+: the loss is (nan|inf) \(examples: \w+/train/.*; the largest gradient is .*lower train"
    with pytest.raises(CkfError, match=line):
        run_small(home, "train.learning_rate=1e30", "train.gradient_clip=1e30", "baselines.text_only=false")


def test_a_failing_build_leaves_no_artifact_and_two_builders_make_one(tmp_path):
    store = Store(tmp_path)
    built = []

    def fail(out: Path) -> None:
        (out / "half").write_text("x")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        store.get("stage", "name", {"a": 1}, [], fail)
    assert [p for p in (tmp_path / "stage").iterdir() if p.is_dir()] == []
    first = store.get("stage", "name", {"a": 1}, [], lambda out: built.append(out))
    again = store.get("stage", "name", {"a": 1}, [], lambda out: built.append(out))
    assert (first.path, first.hash) == (again.path, again.hash)
    assert (first.reused, again.reused) == (False, True)
    assert len(built) == 1
    assert store.get("stage", "name", {"a": 2}, [], lambda out: None).path != first.path
    assert store.get("stage", "name", {"a": 1}, ["input"], lambda out: None).path != first.path
