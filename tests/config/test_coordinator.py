"""Running a sweep: trials in processes of their own, what is said of how they ended, and what stops them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ckf.cli.main import main
from ckf.config.compose import compose
from ckf.config.sweep_file import Trial
from ckf.core.artifact_store import read_json
from ckf.sweep import trial_folder as orders
from ckf.sweep.trial_folder import ALREADY_DONE, DONE, FAILED, TrialResult, make_trial_spec, read_result, run_trial

STUB = """\
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
overrides = json.loads((folder / "order.json").read_text())["overrides"]
print("started", *overrides, flush=True)
seed = [line for line in overrides if line.startswith("seed=")][0]

def end(state, status=0, **more):
    (folder / "outcome.json").write_text(json.dumps({"state": state, "seconds": 1.0, **more}))
    sys.exit(status)

def stop(*_):
    end("interrupted", 130, reason="saved")

signal.signal(signal.SIGINT, stop)
if seed in os.environ.get("HANG", "").split():
    print("hanging", flush=True)
    time.sleep(60)
if seed in os.environ.get("BAD", "").split():
    end("failed", 1, reason=f"out of memory at {folder}/x: 12 of {seed[5:]} bytes")
if seed in os.environ.get("DIE", "").split():
    os.kill(os.getpid(), signal.SIGKILL)
end("already done" if seed in os.environ.get("FOUND", "").split() else "done", run="outputs/" + seed)
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trials run a small program in place of ckf's; returns the working folder."""
    path = tmp_path / "stub.py"
    path.write_text(STUB, encoding="utf-8")
    monkeypatch.setattr(
        orders.TrialSpec, "command", property(lambda order: [sys.executable, str(path), str(order.folder)])
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep_folder(home: Path) -> Path:
    (folder,) = (home / "outputs/sweeps").iterdir()
    return folder


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_trial_does_not_stop_the_rest(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    monkeypatch.setenv("BAD", "seed=1")
    monkeypatch.setenv("DIE", "seed=3")
    monkeypatch.setenv("FOUND", "seed=2")
    assert main(["-m", "seed=0,1,2,3", "--jobs", str(jobs)]) == 1
    said, complained = capsys.readouterr()
    folder = sweep_folder(stub)
    assert "seed=0: done in 1.0 s; outputs/seed=0" in said
    assert f"seed=1: failed in 1.0 s; {Path('outputs/sweeps') / folder.name}/002-seed=1/log.txt: out of memory" in said
    assert "seed=2: already done in 1.0 s; outputs/seed=2" in said
    assert "ended by SIGKILL" in said
    assert "sweep: 1 done, 1 already done, 2 failed" in said.splitlines()
    assert "2 of 4 trials failed; their logs are in" in complained
    summary = read_json(folder / "sweep.json")
    assert summary["counts"] == {"done": 1, "already done": 1, "failed": 2, "interrupted": 0, "not started": 0}
    assert {trial["trial"]: trial["state"] for trial in summary["trials"]}["seed=3"] == "failed"


def test_the_same_command_runs_again_what_failed_and_keeps_what_was_said(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAD", "seed=1")
    assert main(["-m", "seed=0,1"]) == 1
    monkeypatch.setenv("BAD", "")
    monkeypatch.setenv("FOUND", "seed=0")
    assert main(["-m", "seed=0,1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == "sweep: 1 done, 1 already done, 0 failed"
    assert said[-1] == str(sweep_folder(stub).relative_to(stub))
    assert (sweep_folder(stub) / "002-seed=1/log.txt").read_text(encoding="utf-8").count("started seed=1") == 2


def test_three_identical_failures_at_the_start_stop_a_sweep(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAD", "seed=0 seed=1 seed=2 seed=3")
    assert main(["-m", "seed=range(0,6)"]) == 1
    said, complained = capsys.readouterr()
    assert "sweep: stopped: the first 3 trials that ran all failed in the same way (out of memory" in said
    assert "sweep: 0 done, 0 already done, 3 failed, 3 not started" in said
    assert "3 of 6 trials failed, 3 were not started" in complained


def test_failures_of_different_kinds_or_after_a_success_do_not_stop_it(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAD", "seed=0 seed=1")
    monkeypatch.setenv("DIE", "seed=2")
    assert main(["-m", "seed=range(0,4)"]) == 1
    assert "1 done, 0 already done, 3 failed" in capsys.readouterr().out
    monkeypatch.setenv("FOUND", "seed=0")
    monkeypatch.setenv("BAD", "seed=1 seed=2 seed=3 seed=4")
    monkeypatch.setenv("DIE", "")
    assert main(["-m", "seed=range(0,6)"]) == 1
    assert "1 done, 1 already done, 4 failed" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_lets_its_trials_save_and_says_what_is_left(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    monkeypatch.setenv("HANG", "seed=1")
    log = "002-seed=1/log.txt"

    def interrupt() -> None:
        _until(lambda: any("hanging" in path.read_text() for path in stub.glob(f"outputs/sweeps/*/{log}")))
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    assert main(["-m", "seed=0,1,2"]) == 130
    said, complained = capsys.readouterr()
    assert f"seed=1: interrupted in 1.0 s; {sweep_folder(stub).relative_to(stub)}/{log}: saved" in said
    assert "sweep: 1 done, 0 already done, 0 failed, 1 interrupted, 1 not started" in said
    assert "interrupted; the same command continues" in complained


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def test_a_gpu_each(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stub / "stub.py").write_text(STUB.replace('print("started"', 'print(os.environ["CUDA_VISIBLE_DEVICES"], "gpu"'))
    assert main(["-m", "seed=0,1,2,3", "launcher.gpus=[4,6]", "launcher.jobs=2"]) == 0
    seen = [path.read_text().splitlines()[1].split()[0] for path in sweep_folder(stub).glob("*/log.txt")]
    assert set(seen) == {"4", "6"}


def test_a_sweep_of_a_file_counts_kept_results(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stub / "experiments/ranks"
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(
        "title: T\nquestion: Q\noverrides: [size=small]\ngrid: {seed: [0, 1], lora.rank: [2]}\n"
        "rows: [lora.rank]\nmetrics: [test/ctr/auc]\n"
    )
    from ckf.runs.folder import result_key

    key = result_key(compose(["size=small", "seed=1", "lora.rank=2"])[0])
    kept = [f"{key},lora.rank=2,1,c,0,d,v,m,1", "format1:x-seed0,lora.rank=2,0,c,0,d,v,m,1"]
    header = "key,row,seed,command,commit,data,versions,machine,seconds"
    (folder / "provenance.csv").write_text("\n".join([header, *kept]) + "\n")
    assert main(["sweep", "experiments/ranks/sweep.yaml", "logger=csv", "paths.outputs=o"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert any("seed=1 lora.rank=2: already done in 0.0 s; kept in experiments/ranks/provenance.csv" in x for x in said)
    assert said[-2] == "sweep: 1 done, 1 already done, 0 failed"
    assert said[-1].startswith("o/sweeps/ranks-")
    assert main(["sweep", "experiments/ranks/sweep.yaml", "overwrite=true"]) == 0
    assert "sweep: 2 done, 0 already done, 0 failed" in capsys.readouterr().out
    assert main(["sweep", "experiments/ranks/sweep.yaml", "search=optuna"]) == 2
    assert "search=optuna: a sweep file is a grid" in capsys.readouterr().err


# --- the trial's side -------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    order = make_trial_spec(tmp_path, 1, Trial("seed=3", ("seed=3",)), compose(["seed=3", "logger=csv"])[0])
    order.write("train")
    return order.folder


def test_a_trial_runs_its_own_resolved_config(folder: Path, tmp_path: Path) -> None:
    seen = []

    def work(exp):
        seen.append(exp)
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        (run / "run.json").write_text("{}")
        return run

    assert run_trial(folder, {"train": work}).state == DONE
    assert (seen[0].seed, seen[0].method.name) == (3, "ckf")
    assert read_result(folder) == TrialResult(DONE, read_result(folder).seconds, str(tmp_path / "run"))
    time.sleep(0.02)
    assert run_trial(folder, {"train": lambda exp: tmp_path / "run"}).state == ALREADY_DONE, "nothing was written"


def test_a_trial_that_fails_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ckf.core.errors import DataError

    def refuse(exp):
        raise DataError("x.csv: line 3: no user\nmore")

    def crash(exp):
        raise ZeroDivisionError("division by zero")

    assert run_trial(folder, {"train": refuse}).reason == "x.csv: line 3: no user"
    assert read_result(folder).state == FAILED
    assert "Traceback" not in capsys.readouterr().err
    assert run_trial(folder, {"train": crash}).reason == "ZeroDivisionError: division by zero"
    assert "Traceback" in capsys.readouterr().err


def test_a_half_written_outcome_is_none(folder: Path) -> None:
    assert read_result(folder) is None
    (folder / "outcome.json").write_text('{"state": "do')
    assert read_result(folder) is None
