"""``ckf sweep``: run a sweep file."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import Typed, Verb


def call(typed: Typed) -> Path:
    """Run what is missing of a sweep file; return the sweep's folder."""
    from ckf.sweep.run_sweep import run_file

    return run_file(Path(typed.words[0]), typed.overrides, typed.config_dir, typed.jobs)


VERB = Verb(
    "sweep",
    "run what is missing of a sweep file, a process for each trial; key=value overrides every trial",
    call,
    composes=True,
    words=("file",),
    examples=("experiments/fusion/sweep.yaml", "ckf sweep experiments/fusion/small.yaml --jobs 2"),
)
