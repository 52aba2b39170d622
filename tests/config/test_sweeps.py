"""Sweeps: the grid, the check before anything starts, and a failing trial that does not stop the rest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ckf import sweep
from ckf.cli import main
from ckf.errors import ConfigError
from ckf.sweep import Trial, check_trials, expand, file_trials, load_sweep

GOOD = """\
title: Ranks
question: How large?
overrides: [size=small]
grid: {lora.rank: [2, 4], seed: [0]}
rows: [lora.rank]
metrics: [test/ctr/auc]
"""


def test_expand() -> None:
    trials = expand(["fusion=none,linear", "size=small", "seed=range(0,2)", "lora.rank=choice(2,4)"])
    assert len(trials) == 8
    assert trials[0] == Trial("fusion=none seed=0 lora.rank=2", ("size=small", "fusion=none", "seed=0", "lora.rank=2"))
    assert expand(["tasks=[ctr],[ctr,topk]"])[1].overrides == ("tasks=[ctr,topk]",)
    assert expand(["seed=1"]) == [Trial("single run", ("seed=1",))]


@pytest.mark.parametrize("line", ["lora.alpha=interval(1,2)", "fusion=glob(*)"])
def test_only_countable_sweeps(line: str) -> None:
    with pytest.raises(ConfigError, match="only lists, choice"):
        expand([line])


def test_every_trial_is_checked_and_named() -> None:
    with pytest.raises(ConfigError) as caught:
        check_trials(expand(["fusion=meta,lin", "seed=0,1", "lora.rnak=3"]))
    assert caught.value.problems == [
        "trial 'fusion=meta seed=0' and all others: lora.rnak: unknown key; did you mean 'lora.rank'?",
        "trial 'fusion=lin seed=0' and 1 more: fusion: 'lin' is not an option; did you mean 'linear'? "
        "(one of binary, linear, meta, meta_attention, mlp, none, random, soft_prompt)",
    ]


def test_sweep_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(GOOD.replace("[2, 4]", "[2, null, true, '4']") + "", encoding="utf-8")
    overrides = [trial.overrides for trial in file_trials(load_sweep(path), ["logger=csv"])]
    assert overrides[0] == ("size=small", "logger=csv", "lora.rank=2", "seed=0")
    assert [line[2] for line in overrides] == ["lora.rank=2", "lora.rank=null", "lora.rank=true", "lora.rank=4"]
    path.write_text(GOOD.replace("lora.rank", "tasks").replace("[2, 4]", "[[ctr], [{name: topk, weight: 2}]]"))
    assert [trial.name for trial in file_trials(load_sweep(path))] == [
        "tasks=[ctr] seed=0",
        "tasks=[{name:topk,weight:2}] seed=0",
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("title:", "titel:", "titel: unknown key; did you mean 'title'?"),
        ("rows: [lora.rank]", "rows: [lora.rnak]", "rows[0]: 'lora.rnak' is not a key of the grid (lora.rank, seed)"),
        ("grid: {lora.rank: [2, 4], seed: [0]}", "grid: [2]", "grid: [2] is not "),
        ("[2, 4]", "[]", "grid.lora.rank: is empty"),
        ("[2, 4]", "2", "grid"),
        ("metrics: [test/ctr/auc]", "metrics: []", "metrics: is empty"),
        ("metrics:", "control: {lora.rank: 3}\nmetrics:", "control: lora.rank=3 is not in the grid"),
        ("[lora.rank]", "[seed]", "grid.lora.rank: is swept but is no row"),
        ("title: Ranks", "title: [", "cannot be read ("),
    ],
)
def test_a_faulty_sweep_file_is_one_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: {problem}")


VARIANTS = """\
title: Parts
question: Which part counts?
overrides: [size=small]
grid: {seed: [0, 1]}
rows: [variant]
metrics: [test/ctr/auc]
control: {variant: whole}
variants:
  - {name: whole, overrides: []}
  - {name: "text, and a rank", overrides: [fusion=none, lora.rank=2]}
"""


def test_named_variants_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(VARIANTS, encoding="utf-8")
    trials = file_trials(load_sweep(path), ["logger=csv"])
    assert [(trial.name, trial.variant) for trial in trials] == [
        ("whole seed=0", "whole"),
        ("whole seed=1", "whole"),
        ("text, and a rank seed=0", "text, and a rank"),
        ("text, and a rank seed=1", "text, and a rank"),
    ]
    assert trials[2].overrides == ("size=small", "fusion=none", "lora.rank=2", "logger=csv", "seed=0")
    check_trials(trials)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("name: whole,", "name: '',", "variants[0].name: required, has no value"),
        ('"text, and a rank"', "whole", "variants[1].name: 'whole' stands already in variants[0]"),
        ("[fusion=none, lora.rank=2]", "[]", "variants[1].overrides: '' stands already in variants[0]"),
        ("rows: [variant]", "rows: [seed]", "variants: is swept but is no row"),
        ("variant: whole}", "variant: hole}", "control: variant=hole is not in the grid"),
        ("{seed: [0, 1]}", "{variant: [0, 1]}", "grid.variant: is what the rows of variants are called"),
        ("overrides: []", "overides: []", "variants[0].overides: unknown key; did you mean 'variants[0].overrides'?"),
    ],
)
def test_a_faulty_variant_is_one_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(VARIANTS.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    lines = [
        line for line in caught.value.problems if not line.startswith(f"{path}: control: ") or "control" in problem
    ]
    assert any(line.startswith(f"{path}: {problem}") for line in lines), caught.value.problems
    assert len(lines) == 1


def test_a_variant_that_is_refused_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(VARIANTS.replace("lora.rank=2", "lora.rank=0"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_trials(file_trials(load_sweep(path)))
    assert caught.value.problems == ["trial 'text, and a rank seed=0' and 1 more: lora.rank: must be at least 1, got 0"]


def test_nothing_starts_when_one_trial_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "run_trial", lambda *_: pytest.fail("a trial was started"))
    monkeypatch.chdir(tmp_path)
    assert main(["-m", "fusion=none,meta", "cf=mf,bias"]) == 2
    assert "trial 'fusion=meta cf=bias': fusion=meta: cf=bias has no vectors" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


STUB = """\
import pathlib, sys
overrides = sys.argv[1:]
print("started", *overrides)
if "seed=1" in overrides:
    print("out of memory", file=sys.stderr)
    sys.exit(1)
run = pathlib.Path("outputs", "_".join(overrides).replace("/", "-"))
if not run.exists():
    run.mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
print(run)
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_trial_does_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    stub = tmp_path / "stub.py"
    stub.write_text(STUB, encoding="utf-8")
    monkeypatch.setattr(sweep, "trial_command", lambda verb, trial, _: [sys.executable, str(stub), *trial.overrides])
    monkeypatch.chdir(tmp_path)
    done = tmp_path / "outputs/seed=2"
    done.mkdir(parents=True)
    (done / "metrics.json").write_text("{}", encoding="utf-8")
    os.utime(done / "metrics.json", (1, 1))
    assert main(["-m", "seed=0,1,2", "--jobs", str(jobs)]) == 1
    captured = capsys.readouterr()
    lines = sorted(captured.out.splitlines())
    assert any(line.startswith("[1/3] seed=0: done in ") and line.endswith("outputs/seed=0") for line in lines)
    assert any(line.startswith("[2/3] seed=1: failed in ") and "out of memory" in line for line in lines)
    assert any(line.startswith("[3/3] seed=2: already done in ") for line in lines)
    assert "sweep: 1 done, 1 already done, 1 failed" in lines
    assert "1 of 3 trials failed" in captured.err
    (log,) = (tmp_path / "outputs/sweeps").glob("*/002-seed=1.log")
    assert sorted(log.read_text(encoding="utf-8").splitlines()) == ["out of memory", "started seed=1"]


def test_a_sweep_that_succeeds_ends_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = tmp_path / "stub.py"
    stub.write_text(STUB, encoding="utf-8")
    monkeypatch.setattr(sweep, "trial_command", lambda verb, trial, _: [sys.executable, str(stub), *trial.overrides])
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments/ranks"
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(GOOD, encoding="utf-8")
    assert main(["sweep", "experiments/ranks/sweep.yaml", "logger=csv", "paths.outputs=o"]) == 0
    last = Path(capsys.readouterr().out.splitlines()[-1])
    assert last.parent == Path("o/sweeps")
    assert last.name.startswith("ranks-")
    assert len(list(last.glob("*.log"))) == 2


def test_the_command_of_a_trial() -> None:
    command = sweep.trial_command("train", Trial("n", ("seed=1",)), Path("own"))
    assert command == [sys.executable, "-m", "ckf", "train", "seed=1", "--config-dir", "own"]
