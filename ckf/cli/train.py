"""``ckf train``: everything up to the trained model."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import Typed, Verb


def call(typed: Typed) -> Path:
    """Train the model without scoring it; return the run folder."""
    exp = typed.compose().exp
    from ckf.pipeline.run import train

    return train(exp)


VERB = Verb(
    "train",
    "train the model, with all that comes before, and do not score it; prints the run folder",
    call,
    composes=True,
    sweeps=True,
    examples=("ckf train size=small logger=csv", "ckf train method=collm dataset=collm_ml1m dataset.root=DIR"),
)
