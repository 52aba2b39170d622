"""``ckf audit``: what could leak."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import Typed, Verb
from ckf.config.schema import ExperimentConfig


def call(typed: Typed) -> Path:
    """Compose the config and audit what it names; return the examples' folder."""
    return audit(typed.compose().exp)


def audit(exp: ExperimentConfig) -> Path:
    """Audit dataset, examples and every CF model trained on them; return the examples' folder.

    Raises:
        LeakError: a finding of level stop; the whole report has been printed.
    """
    from ckf.core.artifact_store import read_json
    from ckf.data.audit import LeakError, audit_artifacts, raise_on_violation
    from ckf.pipeline.artifacts import log, prepare_dataset, prepare_examples

    dataset = prepare_dataset(exp)
    try:
        examples = prepare_examples(exp, dataset)
    except LeakError as error:
        log(error.report.to_markdown())
        raise
    trained = [
        path.parent
        for path in sorted((Path(exp.paths.cache) / "cf").glob("*/artifact.json"))
        if read_json(path).get("inputs") == [dataset.hash, examples.hash]
    ]
    report = audit_artifacts(dataset.path, examples.path, trained, exp.task_set)
    log(report.to_markdown())
    raise_on_violation(report)
    return examples.path


VERB = Verb(
    "audit",
    "look for leaks: a line for each kind, pass, warn or stop; prints the examples' folder",
    call,
    composes=True,
    examples=("ckf audit dataset=ml1m dataset.root=DIR",),
)
