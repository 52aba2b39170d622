"""Sweeps: the grid, variants, and the check of all trials before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckf.cli.main import main
from ckf.config.compose import compose
from ckf.core.errors import ConfigError
from ckf.runs.folder import result_key
from ckf.sweep import Trial, check_trials, expand, file_trials, load_sweep
from ckf.sweep.launchers import LocalLauncher

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
    assert str(caught.value).splitlines() == [
        "trial 'fusion=meta seed=0' and all others: lora.rnak: unknown key; did you mean 'lora.rank'?",
        "trial 'fusion=lin seed=0' and 1 more: fusion: 'lin' is not an option; did you mean 'linear'? "
        "(one of binary, custom, linear, meta, meta_attention, mlp, none, random, soft_prompt)",
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
    (line,) = str(caught.value).splitlines()
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
        ('"text, and a rank"', "whole", "variants[1].name: 'whole' is already in variants[0]"),
        ("[fusion=none, lora.rank=2]", "[]", "variants[1].overrides: '' is already in variants[0]"),
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
        line
        for line in str(caught.value).splitlines()
        if not line.startswith(f"{path}: control: ") or "control" in problem
    ]
    assert any(line.startswith(f"{path}: {problem}") for line in lines), str(caught.value).splitlines()
    assert len(lines) == 1


def test_a_variant_that_is_refused_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(VARIANTS.replace("lora.rank=2", "lora.rank=0"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_trials(file_trials(load_sweep(path)))
    assert str(caught.value).splitlines() == [
        "trial 'text, and a rank seed=0' and 1 more: lora.rank: must be at least 1, got 0"
    ]


def test_nothing_starts_when_one_trial_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LocalLauncher, "start", lambda *_: pytest.fail("a trial was started"))
    monkeypatch.chdir(tmp_path)
    assert main(["-m", "fusion=none,meta", "cf=mf,bias"]) == 2
    assert "trial 'fusion=meta cf=bias': fusion=meta: cf=bias has no vectors" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["-m", "seed=0,1", "launcher=slrum"], "launcher: 'slrum' is not an option; did you mean 'slurm'?"),
        (["-m", "seed=0,1", "launcher.jobs=0"], "launcher.jobs: must be at least 1, got 0"),
        (["-m", "seed=0,1", "launcher.gpus=[0]", "launcher.jobs=2"], "launcher.jobs: must be at most 1, the"),
        (
            ["-m", "seed=0,1", "launcher.partition=a"],
            "launcher.partition: unknown key here; it belongs to",
        ),
        (["-m", "search=optuna", "seed=1"], "search=optuna: nothing is searched; name a key"),
        (
            ["-m", "search=optuna", "lora.rank=2,4"],
            "evaluate.splits: [test], but a search scores the val split alone; add 'evaluate.splits=[val]'",
        ),
        (
            ["-m", "search=optuna", "lora.rank=2,4", "search.metric=test/ctr/auc"],
            "search.metric: 'test/ctr/auc' is no figure of the val split",
        ),
        (["prepare", "-m", "search=optuna", "seed=0,1"], "search=optuna: ckf prepare scores nothing to search by"),
    ],
)
def test_how_a_sweep_is_run_is_checked_first(
    argv: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert f"ckf: {problem}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_how_a_sweep_is_run_is_no_part_of_a_runs_name() -> None:
    plain, other = (compose(lines)[0] for lines in ([], ["launcher=slurm", "search=optuna", "launcher.jobs=7"]))
    assert result_key(plain) == result_key(other)
