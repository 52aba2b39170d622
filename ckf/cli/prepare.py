"""``ckf prepare``: dataset and examples."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import Argument, Typed, Verb
from ckf.core.errors import ConfigError, Problem

EXPORTS = ("processed_json", "jsonl")


def call(typed: Typed) -> Path:
    """Prepare dataset and examples; return the dataset's folder, or that of the export."""
    if "out" in typed.values and "export" not in typed.values:
        raise ConfigError([Problem("out", "belongs to export= (e.g. export=jsonl out=DIR)")])
    exp = typed.compose().exp
    from ckf.pipeline.run import prepare

    return prepare(exp, typed.values.get("export", ""), typed.path("out"))


VERB = Verb(
    "prepare",
    "make dataset and examples from the source files, audited for leaks; prints the dataset's folder",
    call,
    arguments=(
        Argument("export", "also write the dataset in the released layout", "jsonl", allowed=EXPORTS),
        Argument("out", "folder of the export (default: below paths.outputs)", "DIR"),
    ),
    composes=True,
    sweeps=True,
    examples=("ckf prepare dataset=ml1m dataset.root=DIR", "ckf prepare export=jsonl out=lines"),
)  # fmt: skip
