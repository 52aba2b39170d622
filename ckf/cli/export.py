"""``ckf export``: a run's adapters for one task."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import Argument, Typed, Verb
from ckf.core.errors import ConfigError, Problem
from ckf.tasks import DEFAULT_TASK

FORMATS = ("peft", "merged")


def call(typed: Typed) -> Path:
    """Export a run's adapters for one task; return the folder."""
    try:
        tolerance = float(typed.values["tolerance"]) if "tolerance" in typed.values else None
    except ValueError:
        raise ConfigError([Problem("tolerance", f"'{typed.values['tolerance']}' is not a number")]) from None
    run = typed.run_folder()
    from ckf.model.merge_adapters import export_run

    return export_run(
        run, typed.values["task"], typed.values.get("format", FORMATS[0]), Path(typed.values["out"]), tolerance
    )


VERB = Verb(
    "export",
    "write a run's adapters for one task: one plain PEFT adapter, or weights with it merged in",
    call,
    arguments=(
        Argument("run", "folder of the run", "outputs/NAME", required=True),
        Argument("task", "the task that the adapters shall serve", DEFAULT_TASK, required=True),
        Argument("format", "peft: one adapter (default); merged: the backbone's weights with it merged in", "merged",
                 allowed=FORMATS),
        Argument("out", "folder to write", "DIR", required=True),
        Argument("tolerance", "largest difference of logits to the run's own that is accepted", "1e-4"),
    ),
    config_dir=False,
    examples=("ckf export run=outputs/NAME task=ctr format=peft out=DIR",),
)  # fmt: skip
