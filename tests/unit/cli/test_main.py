"""`ckf` as it is typed: verbs, help, exit statuses, and nothing heavy before a config is accepted."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import ckf
from ckf.cli.main import main
from ckf.config.compose import compose, to_yaml
from ckf.core.errors import DataError

HEAVY = ("torch", "transformers", "pytorch_lightning", "pandas", "peft", "wandb")


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Replace the work; return what was asked of it."""
    calls: list[tuple[str, Any]] = []
    module = types.ModuleType("ckf.pipeline.run")

    def stage(name: str) -> Any:
        def work(*arguments: Any, **options: Any) -> Path:
            calls.append((name, *arguments, *(value for value in options.values() if value)))
            return Path("outputs") / name

        return work

    for name in ("run", "prepare", "cf", "train", "evaluate"):
        setattr(module, name, stage(name))
    monkeypatch.setitem(sys.modules, "ckf.pipeline.run", module)
    return calls


@pytest.mark.parametrize(
    ("argv", "name"),
    [(["size=small"], "run"), (["prepare"], "prepare"), (["cf", "cf=mf"], "cf"), (["train", "seed=1"], "train")],
)
def test_a_verb_calls_its_stage_and_the_last_line_is_the_folder(
    pipeline: list[Any], capsys: pytest.CaptureFixture[str], argv: list[str], name: str
) -> None:
    assert main(argv) == 0
    assert [call[0] for call in pipeline] == [name]
    assert capsys.readouterr().out.splitlines()[-1] == f"outputs/{name}"


def test_evaluate_takes_its_config_from_the_run(
    pipeline: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(compose(["fusion=linear"])[0]), encoding="utf-8")
    assert main(["evaluate", f"run={tmp_path}", "evaluate.batch_size=8"]) == 0
    assert pipeline == [("evaluate", tmp_path, ["evaluate.batch_size=8"])]
    assert main(["evaluate", f"run={tmp_path}", "lora.rank=8"]) == 2
    assert "lora.rank: belongs to the run" in capsys.readouterr().err
    assert main(["evaluate", "run=nowhere"]) == 1
    assert capsys.readouterr().err == (
        "ckf: nowhere: not a run folder (no config.yaml); runs are made by `ckf` or `ckf train`\n"
    )


def test_report_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[Any] = []
    report, build, tables = (types.ModuleType(f"ckf.report{part}") for part in ("", ".build", ".sweep_table"))
    build.report = lambda runs, out: calls.append((runs, out))  # type: ignore[attr-defined]
    tables.render_table = lambda *places: calls.append(places)  # type: ignore[attr-defined]
    report.build, report.sweep_table = build, tables  # type: ignore[attr-defined]
    for module in (report, build, tables):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("b", "a", "unfinished"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "metrics.json").write_text("{}", encoding="utf-8")
    assert main(["report", f"runs={tmp_path}/*", "out=made"]) == 0
    assert main(["report", "table=experiments/fusion"]) == 0
    assert main(["report", "table=experiments/fusion/small.yaml", "outputs=o", "figures=pdf"]) == 0
    assert calls == [
        ([tmp_path / "a", tmp_path / "b"], Path("made")),
        (Path("experiments/fusion"), Path("outputs"), None),
        (Path("experiments/fusion/small.yaml"), Path("o"), Path("pdf")),
    ]
    assert main(["report", f"runs={tmp_path}/x*", "out=made"]) == 1
    assert "no finished run there" in capsys.readouterr().err


def test_exit_statuses(
    pipeline: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: BaseException) -> None:
        def work(exp: object) -> Path:
            raise error

        monkeypatch.setattr(sys.modules["ckf.pipeline.run"], "run", work)

    fail(DataError("ratings.dat: no such file"))
    assert main([]) == 1
    assert capsys.readouterr().err == "ckf: ratings.dat: no such file\n"
    fail(KeyboardInterrupt())
    assert main([]) == 130
    fail(ZeroDivisionError("a fault of ours"))
    with pytest.raises(ZeroDivisionError):  # keeps its traceback
        main([])


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (
            ["prepar"],
            "prepar: unknown verb; did you mean 'prepare'? (one of prepare, audit, inspect, plan, cf, train, ",
        ),
        (["size=small", "train"], "train: neither key=value nor an option; a verb comes before them"),
        (["--confg-dir=x"], "--confg-dir=x: unknown option; did you mean '--config-dir'?"),
        (["--config-dir"], "--config-dir: needs a value"),
        (["--config-dir", "no/such"], "--config-dir: no/such: no such folder"),
        (["--jobs", "0", "-m"], "--jobs: '0' is not a number of processes (1 or more)"),
        (["--jobs=2"], "--jobs: belongs to -m or ckf sweep"),
        (["--all"], "--all: belongs to ckf check"),
        (["prepare", "train"], "train: neither key=value nor an option; a verb comes before them"),
        (["-m", "check"], "-m: sweeps over the main job or prepare, cf, train"),
        (["check", "-m"], "-m: sweeps over the main job or prepare, cf, train"),
        (["-m", "--cfg"], "--cfg: shows the config of one run; leave out the sweep or the verb"),
        (["evaluate"], "run: required, has no value (e.g. run=outputs/NAME)"),
        (["evaluate", "rnu=x"], "rnu: unknown argument of ckf evaluate; did you mean 'run'?"),
        (["report", "runs=x"], "out: required, has no value (e.g. out=DIR)"),
        (["report", "table=x", "out=y"], "out: not used with table="),
        (["sweep"], "ckf sweep takes one file, got 0; e.g. experiments/fusion/sweep.yaml"),
        (["check", "lora.rank=0"], "lora.rank: must be at least 1, got 0"),
    ],
)
def test_a_refused_command_is_one_line_and_status_2(
    argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"ckf: {problem}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_help_lists_verbs_groups_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    options = "binary custom linear meta* meta_attention mlp none random"
    for part in ("prepare", "sweep", options, "--config-dir", "examples:"):
        assert part in text
    for verb in ("prepare", "cf", "train", "evaluate", "report", "check", "sweep"):
        assert main([verb, "-h"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: ckf {verb} ")


def test_help_lists_ones_own_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fusion").mkdir()
    (tmp_path / "fusion/wide.yaml").write_text("defaults: [_schema_meta]\n", encoding="utf-8")
    assert main(["--help", f"--config-dir={tmp_path}"]) == 0
    assert "binary custom linear meta* meta_attention mlp none random soft_prompt wide" in capsys.readouterr().out
    assert main(["check", "fusion=wide", "--config-dir", str(tmp_path)]) == 0


def test_version_and_config_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ckf {ckf.__version__}\n"
    assert main(["--cfg", "fusion=none"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("format: 2\nname: main\nseed: 0\n")
    assert captured.err == "ckf: note: fusion=none: curriculum=text_only, there is nothing to fuse\n"
    assert main(["check", "seed=3"]) == 0
    assert capsys.readouterr().out.startswith("config ok: ")


@pytest.mark.parametrize(
    ("argv", "status"),
    [(["--help"], 0), (["lora.rnak=3"], 2), (["--cfg"], 0), (["check"], 0), (["-m", "lora.rnak=3,4"], 2)],
)
def test_nothing_heavy_is_imported(argv: list[str], status: int) -> None:
    script = (
        "import sys; from ckf.cli.main import main\n"
        f"status = main({argv!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status)"
    )
    root = Path(ckf.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.splitlines()[-1] == f"[] {status}"


def test_a_module_is_the_same_program() -> None:
    root = Path(ckf.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "ckf", "fusion=nnoe"], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ckf: fusion: 'nnoe' is not an option")
