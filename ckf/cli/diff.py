"""``ckf diff``: two runs compared."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import Argument, Typed, Verb, run_folder


def call(typed: Typed) -> Path | None:
    """Print the comparison of two runs; return the folder it is written to, if any."""
    from ckf.report.run_diff import run_diff

    first, second = map(run_folder, typed.words)
    out = typed.path("out")
    print(run_diff(first, second, out), end="")
    return out


VERB = Verb(
    "diff",
    "compare two runs on the same examples: paired differences, settings that differ, examples that changed most",
    call,
    arguments=(Argument("out", "folder for the comparison", "DIR"),),
    words=("run folder", "run folder"),
    config_dir=False,
    examples=("ckf diff outputs/A outputs/B",),
)
