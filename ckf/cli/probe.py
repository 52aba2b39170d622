"""``ckf probe``: what a trained model reads."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import CACHE, Argument, Typed, Verb, run_folder


def call(typed: Typed) -> Path | None:
    """Print what the probes found; return the folder it is written to, if any."""
    run = run_folder(typed.words[0])
    from ckf.core.artifact_store import write_json
    from ckf.inference.predictor import Predictor
    from ckf.inference.probe import probe

    text, figures = probe(Predictor.load(run, typed.path(CACHE.key)))
    print(text, end="")
    out = typed.path("out")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "probe.md").write_text(text, encoding="utf-8")
        write_json(out / "probe.json", figures)
    return out


VERB = Verb(
    "probe",
    "measure what a trained model reads of a prompt, and its favourite positions in a list",
    call,
    arguments=(Argument("out", "folder for probe.md and probe.json", "DIR"), CACHE),
    words=("run folder",),
    config_dir=False,
    examples=("ckf probe outputs/NAME",),
)
