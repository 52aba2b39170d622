"""`ckf prepare export=…`, `ckf audit` and `ckf inspect` as they are typed."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ckf.cli import audit, inspect
from ckf.cli.main import VERBS, main


def _noted(calls: list[tuple[Any, ...]], name: str) -> Any:
    def work(exp: Any, *rest: Any) -> Path | None:
        calls.append((name, exp.split.name, *rest))
        return None if name == "inspect" else Path("made") / name

    return work


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replace the work; return what was asked of it, without the config."""
    calls: list[tuple[Any, ...]] = []
    module = types.ModuleType("ckf.pipeline.run")
    for name in ("run", "prepare", "cf", "train"):
        setattr(module, name, _noted(calls, name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(audit, "audit", _noted(calls, "audit"))
    monkeypatch.setattr(inspect, "inspect", _noted(calls, "inspect"))
    return calls


def test_audit_and_export_end_with_their_folder(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "split=leave_last_out"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "made/audit"
    assert main(["prepare", "export=jsonl"]) == 0
    assert main(["prepare", "export=processed_json", "out=there"]) == 0
    assert asked == [
        ("audit", "leave_last_out"),
        ("prepare", "temporal", "jsonl", None),
        ("prepare", "temporal", "processed_json", Path("there")),
    ]


def test_inspect_tells_its_split_from_the_configs(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    from ckf.cli.inspection import Request

    assert main(["inspect", "split=leave_last_out", "split=test", "task=topk", "n=1", "slots=false"]) == 0
    assert main(["inspect", "example=ctr/val/3-4"]) == 0
    assert asked == [
        ("inspect", "leave_last_out", Request("topk", 1, "test", False, None)),
        ("inspect", "temporal", Request(None, 3, "train", None, "ctr/val/3-4")),
    ]
    assert capsys.readouterr().out == "", "what is shown is the whole output"


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["inspect", "n=0"], "n: '0' is not a number of examples (1 or more)"),
        (
            ["inspect", "task=ctrl"],
            "task: 'ctrl' is not allowed; did you mean 'ctr'? (one of ctr, rating, topk, explain)",
        ),
        (["inspect", "slots=maybe"], "slots: 'maybe' is not allowed (one of true, false)"),
        (["inspect", "example=7"], "example: '7' is no example id; one reads task/split/user-item, e.g. ctr/test/12-7"),
        (["inspect", "example=ctr/val/3-4", "task=topk"], "example: ctr/val/3-4 is of another task than task=topk"),
        (["inspect", "task="], "task: has no value"),
        (["inspect", "tsak=ctr"], "tsak: unknown key; did you mean 'tasks'?"),
        (["inspect", "backbone=none"], "backbone=none: has no tokenizer to inspect with; use backbone=tiny or hf"),
        (
            ["inspect", "dataset=collm_ml1m", "dataset.root=x", "task=rating"],
            "task: rating, but dataset=collm_ml1m provides ctr, topk",
        ),
        (
            ["prepare", "export=json"],
            "export: 'json' is not allowed; did you mean 'jsonl'? (one of processed_json, jsonl)",
        ),
        (["prepare", "out=there"], "out: belongs to export= (e.g. export=jsonl out=DIR)"),
        (["audit", "export=jsonl"], "export: unknown key"),
        (["audit", "-m"], "-m: sweeps over the main job or prepare, cf, train"),
        (["audit", "tasks.protocol=publshed"], "tasks.protocol: 'publshed' is not allowed; one of strict, released"),
        (
            ["audit", "tasks.history_same_timestamp=drop"],
            "tasks.history_same_timestamp: 'drop' is not allowed; one of auto, exclude, keep",
        ),
        (
            ["audit", "tasks.protocol=released", "tasks.negatives=popularity"],
            "tasks.negatives: 'popularity', but protocol=released draws uniformly; use uniform",
        ),
    ],
)
def test_a_wrong_argument_is_one_line(
    asked: list[Any], argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("ckf: note: ")] == [f"ckf: {problem}"]
    assert not asked


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in VERBS:
        assert f"\n  {verb} " in text


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_says_everything_about_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb = VERBS[name]
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: ckf {name}")
    assert f"{verb.summary[0].upper()}{verb.summary[1:20]}" in text
    for argument in verb.arguments:
        assert f"\n  {argument.key}=" in text, "each argument has a line"
        assert all(value in text for value in argument.allowed)
    for example in verb.examples:
        assert f"\n  {example}" in text
    assert ("groups (GROUP=OPTION" in text) == verb.composes
    assert ("--multirun" in text) == verb.sweeps
    assert ("--all" in text) == (name == "check")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("ckf recom", ["recommend"]),
        ("ckf fusion=m", ["meta", "meta_attention", "mlp"]),
        ("ckf run=", []),
        ("ckf lora.ra", ["lora.rank="]),
        ("ckf prepare export=j", ["jsonl"]),
        ("ckf train --mult", ["--multirun"]),
    ],
)
def test_bash_completes_verbs_options_and_keys(
    typed: str, completed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    line = f"COMP_LINE={typed!r}; COMP_POINT={len(typed)}"
    ask = f"{script}\n{line}; _ckf 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert sorted(set(done.stdout.split())) == completed


def test_other_shells_get_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("zsh", "fish"):
        assert main(["completion", shell]) == 0
        text = capsys.readouterr().out
        assert all(word in text for word in ("recommend", "fusion=meta", "train.global_batch_size="))
    assert main(["completion", "tcsh"]) == 2
    assert capsys.readouterr().err == "ckf: tcsh: no such shell (one of bash, zsh, fish)\n"
