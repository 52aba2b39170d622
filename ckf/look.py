"""Stages that look and train nothing: the audit of what is prepared, examples token by token, what a run will take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ckf.config.schema import ExperimentConfig, NoBackboneConfig, NoCurriculumConfig, TinyBackboneConfig
from ckf.core.artifact_store import Artifact, read_json
from ckf.core.errors import CkfError, ConfigError, Problem
from ckf.pipeline.artifacts import get_backbone, log, prepare_dataset, prepare_examples, store

if TYPE_CHECKING:
    from ckf.cli.inspection import Request


def audit(exp: ExperimentConfig) -> Path:
    """``ckf audit``: look through dataset, examples and any CF model trained on them; returns the examples' folder.

    Raises:
        LeakError: a line of level stop; the whole report has been printed.
    """
    from ckf.data.audit import LeakError, audit_artifacts, raise_on_violation

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


def inspect(exp: ExperimentConfig, request: Request) -> None:
    """``ckf inspect``: print examples as the model gets them."""
    from ckf.cli.inspection import inspect_examples

    dataset = prepare_dataset(exp)
    examples = prepare_examples(exp, dataset)
    for line in inspect_examples(exp, dataset.path, examples.path, _tokenizer_folder(exp, dataset), request):
        log(line)


def _tokenizer_folder(exp: ExperimentConfig, dataset: Artifact) -> str:
    """The backbone's tokenizer; the tiny one's is trained without its model, which takes seconds."""
    if not isinstance(exp.backbone, TinyBackboneConfig):
        return get_backbone(exp, dataset)[0]
    cfg = exp.backbone

    def build(out: Path) -> None:
        from ckf.model.tiny_backbone import corpus, tiny_tokenizer

        tiny_tokenizer(cfg, exp.prompts, corpus(dataset.path, exp.pretrain.seed)).save_pretrained(str(out))

    settings = {"vocabulary": cfg.vocabulary, "seed": exp.pretrain.seed, "prompts": exp.prompts}
    return str(store(exp).get("tokenizer", "tiny", settings, [dataset.hash], build).path)


def plan(exp: ExperimentConfig) -> None:
    """``ckf plan``: print parameters, tokens, time, memory and disk of a run; nothing is trained.

    Raises:
        ConfigError: the config trains nothing.
    """
    if isinstance(exp.backbone, NoBackboneConfig) or isinstance(exp.curriculum, NoCurriculumConfig):
        raise ConfigError(
            [Problem("plan", f"backbone={exp.backbone.name} with curriculum={exp.curriculum.name} trains nothing")]
        )
    from ckf.train.cost_estimate import describe_cost

    try:
        dataset = prepare_dataset(exp)
        folders = dataset.path, prepare_examples(exp, dataset).path, _tokenizer_folder(exp, dataset)
    except CkfError as error:  # the parts can be counted without any data
        log(f"data: {str(error).splitlines()[0]}")
        folders = None
    for line in describe_cost(exp, folders):
        log(line)
