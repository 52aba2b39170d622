"""Verbs on finished runs, whose config lies in their folder."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from ckf.config.compose import load_yaml, with_overrides
from ckf.config.option_groups import did_you_mean
from ckf.core.errors import CkfError, ConfigError, Problem
from ckf.tasks import DEFAULT_TASK

EXPORTS = ("peft", "merged")


def evaluate(arguments: Sequence[str]) -> Path:
    """``ckf evaluate run=PATH [out=DIR] [dataset=OPTION …] [evaluate.KEY=VALUE …]``.

    Another dataset or own candidate lists go to ``out``: the run's own figures stay what they are.
    """
    own, overrides = _sorted("evaluate", arguments, ["run", "out", "dataset", "split"])
    run = _run_folder(_needed(own, run="outputs/NAME")["run"])
    elsewhere = [f"{key}={own[key]}" for key in ("dataset", "split") if key in own]
    elsewhere += [line for line in overrides if line.startswith(("dataset.", "split."))]
    overrides = [line for line in overrides if line not in elsewhere]
    problems = []
    if elsewhere and "dataset" not in own:
        problems.append(
            Problem("dataset", "required to evaluate on other data (e.g. dataset=ml_latest dataset.root=DIR)")
        )
    lists = any(line.startswith("evaluate.candidate_file=") for line in overrides)
    if (elsewhere or lists) and "out" not in own:
        problems.append(
            Problem("out", "required with other data or lists (e.g. out=DIR); the run keeps its own figures")
        )
    if problems:
        raise ConfigError(problems)
    with_overrides(load_yaml(run / "config.yaml"), overrides, allowed=("evaluate.", "trainer."))
    from ckf.pipeline import run as pipeline

    out = Path(own["out"]) if "out" in own else None
    return pipeline.evaluate(run, overrides, out=out, elsewhere=elsewhere)


def predict(arguments: Sequence[str]) -> Path:
    """``ckf predict run=PATH input=ROWS.parquet out=FILE.parquet [bad_rows=stop|skip]``."""
    own, overrides = _sorted("predict", arguments, ["run", "input", "out", "bad_rows"])
    _needed(own, run="outputs/NAME", input="rows.parquet", out="scores.parquet")
    problems = [Problem(line, "ckf predict takes no config") for line in overrides]
    rule = own.get("bad_rows", "stop")
    if rule not in ("stop", "skip"):
        problems.append(Problem("bad_rows", f"'{rule}' is not allowed (one of stop, skip)"))
    if problems:
        raise ConfigError(problems)
    run, out = _run_folder(own["run"]), Path(own["out"])
    from ckf.inference.predict import predict_file
    from ckf.inference.predictor import Predictor

    counts = predict_file(Predictor.load(run), Path(own["input"]), out, skip_bad=rule == "skip")
    said = [f"{counts['rows']} rows"]
    said += [f"{counts['bad']} left out"] if counts["bad"] else []
    said += [f"{counts['cold']} of users that the data does not know, scored as cold ones"] if counts["cold"] else []
    said += [f"{counts['resumed']} scored before"] if counts["resumed"] else []
    print(f"predict: {', '.join(said)}")
    return out


def recommend(arguments: Sequence[str]) -> Path:
    """``ckf recommend run=PATH user=ID [top=10] [rerank=100] [seen=true|false]``."""
    own, overrides = _sorted("recommend", arguments, ["run", "user", "top", "rerank", "seen"])
    _needed(own, run="outputs/NAME", user="42")
    problems = [Problem(line, "ckf recommend takes no config") for line in overrides]
    for key in ("top", "rerank"):
        if key in own and not (own[key].isdecimal() and int(own[key]) > 0):
            problems.append(Problem(key, f"'{own[key]}' is not a number of items (1 or more)"))
    if own.get("seen", "false") not in ("true", "false"):
        problems.append(Problem("seen", f"'{own['seen']}' is not allowed (one of true, false)"))
    if problems:
        raise ConfigError(problems)
    run = _run_folder(own["run"])
    from ckf.inference.predictor import Predictor
    from ckf.inference.recommend import recommendation

    numbers = {key: int(own[key]) for key in ("top", "rerank") if key in own}
    print(recommendation(Predictor.load(run), own["user"], seen=own.get("seen") == "true", **numbers), end="")
    return run


def probe(folders: Sequence[str], arguments: Sequence[str]) -> Path | None:
    """``ckf probe RUN [out=DIR]``: prints what the probes found; returns the folder it is written to, if any."""
    own, overrides = _sorted("probe", arguments, ["out"])
    problems = [Problem(line, "ckf probe takes no config") for line in overrides]
    if len(folders) != 1:
        problems.append(Problem("", f"ckf probe takes one run folder, got {len(folders)}; e.g. ckf probe outputs/NAME"))
    if problems:
        raise ConfigError(problems)
    run = _run_folder(folders[0])
    from ckf.core.artifact_store import write_json
    from ckf.inference.predictor import Predictor
    from ckf.inference.probe import probe as look

    text, figures = look(Predictor.load(run))
    print(text, end="")
    if "out" not in own:
        return None
    out = Path(own["out"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "probe.md").write_text(text, encoding="utf-8")
    write_json(out / "probe.json", figures)
    return out


def report(arguments: Sequence[str]) -> Path:
    """``ckf report runs=GLOB out=DIR``, or ``table=experiments/NAME[/FILE] [outputs=DIR] [figures=DIR]``."""
    own, overrides = _sorted("report", arguments, ["runs", "out", "table", "outputs", "figures"])
    if overrides:
        raise ConfigError([Problem(line, "ckf report takes no config") for line in overrides])
    if "table" in own:
        if unused := [Problem(key, "not used with table=") for key in ("runs", "out") if key in own]:
            raise ConfigError(unused)
        from ckf.report.sweep_table import render_table

        figures = Path(own["figures"]) if "figures" in own else None
        render_table(Path(own["table"]), Path(own.get("outputs", "outputs")), figures)
        return Path(own["table"])
    _needed(own, runs="'outputs/*'", out="DIR")
    runs = [Path(path) for path in sorted(glob.glob(own["runs"])) if (Path(path) / "metrics.json").is_file()]
    if not runs:
        raise CkfError(f"runs={own['runs']}: no finished run there (a folder with metrics.json)")
    from ckf.report import build

    build.report(runs, Path(own["out"]))
    return Path(own["out"])


def diff(folders: Sequence[str], arguments: Sequence[str]) -> Path | None:
    """``ckf diff RUN_A RUN_B [out=DIR]``: prints the comparison; returns the folder it is written to, if any."""
    own, overrides = _sorted("diff", arguments, ["out"])
    problems = [Problem(line, "ckf diff takes no config") for line in overrides]
    if len(folders) != 2:
        problems.append(
            Problem("", f"ckf diff takes two run folders, got {len(folders)}; e.g. ckf diff outputs/A outputs/B")
        )
    if problems:
        raise ConfigError(problems)
    from ckf.report.run_diff import run_diff

    out = Path(own["out"]) if "out" in own else None
    print(run_diff(_run_folder(folders[0]), _run_folder(folders[1]), out), end="")
    return out


def export(arguments: Sequence[str]) -> Path:
    """``ckf export run=PATH task=TASK format=peft|merged out=DIR [tolerance=X]``."""
    own, overrides = _sorted("export", arguments, ["run", "task", "format", "out", "tolerance"])
    _needed(own, run="outputs/NAME", task=DEFAULT_TASK, out="DIR")
    problems = [Problem(f"{line}", "ckf export takes no config") for line in overrides]
    kind = own.get("format", EXPORTS[0])
    if kind not in EXPORTS:
        problems.append(
            Problem("format", f"'{kind}' is not allowed{did_you_mean(kind, EXPORTS)} (one of {', '.join(EXPORTS)})")
        )
    try:
        tolerance = float(own["tolerance"]) if "tolerance" in own else None
    except ValueError:
        problems.append(Problem("tolerance", f"'{own['tolerance']}' is not a number"))
    if problems:
        raise ConfigError(problems)
    run = _run_folder(own["run"])
    from ckf.model.merge_adapters import export_run

    return export_run(run, own["task"], kind, Path(own["out"]), tolerance)


def _sorted(verb: str, arguments: Sequence[str], known: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split a verb's own arguments from config overrides (those with a dot in the key)."""
    own, overrides, problems = {}, [], []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in known:
            own[key] = value
        elif "." in key:
            overrides.append(argument)
        else:
            problems.append(Problem(key, f"unknown argument of ckf {verb}{did_you_mean(key, known)}"))
    if problems:
        raise ConfigError(problems)
    return own, overrides


def _needed(own: dict[str, str], **examples: str) -> dict[str, str]:
    missing = [
        Problem(k, f"required, has no value (e.g. {k}={example})") for k, example in examples.items() if not own.get(k)
    ]
    if missing:
        raise ConfigError(missing)
    return own


def _run_folder(path: str) -> Path:
    run = Path(path)
    if not (run / "config.yaml").is_file():
        raise CkfError(f"{run}: not a run folder (no config.yaml); runs are made by `ckf` or `ckf train`")
    return run
