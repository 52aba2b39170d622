"""``ckf cf``: the CF model and the bias baseline."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import Typed, Verb


def call(typed: Typed) -> Path:
    """Fit the CF model and the bias baseline; return the CF model's folder."""
    exp = typed.compose().exp
    from ckf.pipeline.run import cf

    return cf(exp)


VERB = Verb(
    "cf",
    "fit the collaborative-filtering model and the bias baseline; prints the CF model's folder",
    call,
    composes=True,
    sweeps=True,
    examples=("ckf cf cf=lightgcn cf.dim=32", "ckf cf -m cf=mf,sasrec seed=0,1,2"),
)
