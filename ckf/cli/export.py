"""``ckf export``: a run's adapters for one task, or the run with all that it needs."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import CACHE, Argument, Typed, Verb
from ckf.core.errors import ConfigError, Problem
from ckf.tasks import DEFAULT_TASK

BUNDLE = "bundle"
FORMATS = ("peft", "merged", BUNDLE)


def call(typed: Typed) -> Path:
    """Export a run's adapters for one task, or the run with all that it needs; return the folder."""
    try:
        tolerance = float(typed.values["tolerance"]) if "tolerance" in typed.values else None
    except ValueError:
        raise ConfigError([Problem("tolerance", f"'{typed.values['tolerance']}' is not a number")]) from None
    run, out, cache = typed.run_folder(), Path(typed.values["out"]), typed.path(CACHE.key)
    format, task = typed.values.get("format", FORMATS[0]), typed.values.get("task")
    if format == BUNDLE:
        if unused := [
            Problem(key, "not used with format=bundle") for key in ("task", "tolerance") if key in typed.values
        ]:
            raise ConfigError(unused)
        from ckf.pipeline.bundle import write_bundle

        return write_bundle(run, out, cache)
    if task is None:
        raise ConfigError([Problem("task", f"required with format={format} (e.g. task={DEFAULT_TASK})")])
    from ckf.model.merge_adapters import export_run

    return export_run(run, task, format, out, tolerance, cache)


VERB = Verb(
    "export",
    "write a run's adapters for one task (one plain PEFT adapter, or weights with it merged in), or a bundle: the run "
    "with its data, vectors and backbone in one folder that needs nothing else",
    call,
    arguments=(
        Argument("run", "folder of the run", "outputs/NAME", required=True),
        Argument("task", "the task that the adapters shall serve (peft, merged)", DEFAULT_TASK),
        Argument("format", "peft: one adapter (default); merged: the backbone's weights with it merged in; bundle: all "
                 "that predict and recommend need", "merged", allowed=FORMATS),
        Argument("out", "folder to write", "DIR", required=True),
        Argument("tolerance", "largest difference of logits to the run's own that is accepted", "1e-4"),
        CACHE,
    ),
    config_dir=False,
    examples=(
        "ckf export run=outputs/NAME task=ctr format=peft out=DIR", "ckf export run=outputs/NAME format=bundle out=DIR",
    ),
)  # fmt: skip
