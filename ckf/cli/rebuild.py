"""``ckf rebuild``: the artifacts that a run has lost."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import CACHE, Argument, Typed, Verb


def call(typed: Typed) -> Path:
    """Make a run's missing artifacts from its own config; return the run folder."""
    run = typed.run_folder()
    from ckf.pipeline.rebuild import rebuild

    return rebuild(run, typed.overrides, typed.path(CACHE.key))


VERB = Verb(
    "rebuild",
    "make a run's missing artifacts (dataset, examples, CF model, bias baseline, tiny backbone) from its own config, "
    "to the same hashes; the run itself is not trained again",
    call,
    arguments=(
        Argument("run", "folder of the run", "outputs/NAME", required=True),
        CACHE,
    ),
    overrides=True,
    config_dir=False,
    examples=("ckf rebuild run=outputs/NAME", "ckf rebuild run=outputs/NAME dataset.root=DATA paths.cache=DIR"),
)
