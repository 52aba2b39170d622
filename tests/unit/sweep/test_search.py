"""A search: trials in batches, told in order, the best said, and the same trials again from the same command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ckf.cli.main import main
from ckf.core.artifact_store import read_json
from ckf.sweep import trial_folder as orders
from ckf.sweep.search_space import read_space

pytest.importorskip("optuna", reason="search=optuna needs the extra `tune`")

STUB = """\
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
values = dict(line.split("=", 1) for line in json.loads((folder / "order.json").read_text())["overrides"])
rank = int(values["lora.rank"])
run = pathlib.Path("outputs") / f"rank{rank}"
run.mkdir(parents=True, exist_ok=True)
(run / "metrics.json").write_text(json.dumps({"val/ctr/auc": 1 - (rank - 8) ** 2 / 1000}))
state = {"state": "done", "run": str(run)} if rank != int(os.environ.get("BAD", "0")) else {"state": "failed"}
(folder / "outcome.json").write_text(json.dumps({**state, "reason": "no luck", "seconds": 0.1}))
"""
SEARCH = ["-m", "search=optuna", "search.trials=6", "evaluate.splits=[val]", "lora.rank=choice(2,4,8,16)"]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "stub.py"
    path.write_text(STUB, encoding="utf-8")
    monkeypatch.setattr(
        orders.TrialSpec, "command", property(lambda order: [sys.executable, str(path), str(order.folder)])
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(home: Path) -> list[list[str]]:
    return [read_json(path)["overrides"] for path in sorted(home.glob("outputs/sweeps/search-*/*/order.json"))]


def test_the_best_is_said_and_the_same_command_asks_for_the_same_trials(
    stub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SEARCH, "--jobs", "2"]) == 0
    said = capsys.readouterr().out
    assert "search: best so far val/ctr/auc" in said
    assert "sweep: 6 done, 0 already done, 0 failed" in said
    first = asked(stub)
    assert len(first) == 6
    assert all(lines[0] == "evaluate.splits=[val]" for lines in first)
    (place,) = stub.glob("outputs/sweeps/search-*")
    summary = read_json(place / "sweep.json")
    tried = {int(lines[-1].split("=")[1]) for lines in first}
    assert summary["best"] == f"lora.rank={min(tried, key=lambda rank: abs(rank - 8))}"
    assert main([*SEARCH, "--jobs", "2"]) == 0
    assert asked(stub) == first


def test_a_failed_trial_is_left_out_and_told(
    stub: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD", "8")
    assert main([*SEARCH[:-1], "lora.rank=choice(8,16)"]) == 1
    (place,) = stub.glob("outputs/sweeps/search-*")
    summary = read_json(place / "sweep.json")
    assert summary["best"] == "lora.rank=16"
    assert summary["counts"]["failed"] + summary["counts"]["done"] == 6
    assert "trials failed" in capsys.readouterr().err


def test_a_space_is_written_as_sweeps_are() -> None:
    space = read_space(["a=1", "b=choice(x,y)", "c=range(1,4)", "d=interval(0.1,0.2)", "e=tag(log,interval(1,64))"])
    assert (space.fixed, list(space.suggest), space.problems) == (["a=1"], ["b", "c", "d", "e"], [])
    assert str(read_space(["b=glob(*)", "c=choice("]).problems[0]).startswith("b=glob(*): only choice(), range()")
