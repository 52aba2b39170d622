"""``ckf`` or ``ckf run``: the main job."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import Typed, Verb


def call(typed: Typed) -> Path:
    """Run every stage, from source files to the report; return the run folder."""
    exp = typed.compose().exp
    from ckf.pipeline.run import run

    return run(exp)


VERB = Verb(
    "run",
    "run the main job: prepare, cf, train, evaluate, report (also without the word `run`); prints the run folder",
    call,
    composes=True,
    sweeps=True,
    examples=(
        "ckf size=small logger=csv                        # a short run on the built-in data",
        "ckf method=tallrec 'tasks=[{name: ctr, weight: 2}, {name: topk}]' seed=1",
        "ckf -m fusion=none,linear,meta lora.rank=4,16    # an ablation: six runs",
    ),
)
