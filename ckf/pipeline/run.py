"""The stages in order: prepare → cf → train → evaluate → report. Each reads artifacts and writes one."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ckf.config.schema import (
    BiasConfig,
    EvaluateConfig,
    ExperimentConfig,
    MethodConfig,
    NoCurriculumConfig,
    NoFusionConfig,
    PerturbationConfig,
    TextOnlyCurriculumConfig,
    WandbConfig,
)
from ckf.core.artifact_store import Artifact, fingerprint, read_json
from ckf.core.errors import CkfError, first_line
from ckf.pipeline.artifacts import (
    cf_artifact_dir,
    check_likes,
    check_requirements,
    content_key,
    data_warnings,
    fit_bias_baseline,
    get_backbone,
    log,
    prepare_dataset,
    prepare_examples,
    train_cf,
)
from ckf.runs.artifact_places import TEXT, artifact_path, place_of
from ckf.runs.folder import (
    CONFIG,
    LAST,
    METADATA,
    PREVIOUS,
    create_run,
    is_finished,
    read_run,
    run_folder,
    update_metadata,
)
from ckf.train.distributed.rendezvous import on_first_rank, train_together

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


def prepare(exp: ExperimentConfig, export: str = "", out: Path | None = None) -> Path:
    """``ckf prepare``: dataset and examples; returns the dataset's folder, or that of the ``export``."""
    dataset = prepare_dataset(exp)
    examples = prepare_examples(exp, dataset)
    from ckf.data.prepare_summary import summary

    for line in summary(dataset.path, examples.path):
        log(line)
    if not export:
        return dataset.path
    from ckf.data.export import export_dataset

    target = out or Path(exp.paths.outputs) / f"{dataset.path.name}-{export}"
    log(f"export: {export} -> {target}")
    return export_dataset(dataset.path, examples.path, export, target, exp.task_set)


def cf(exp: ExperimentConfig) -> Path:
    """Fit the CF model and the bias baseline, log the CF model's metrics; return the CF model's folder."""
    from ckf.tracking.cf_training import CFLog

    dataset = prepare_dataset(exp)
    examples = prepare_examples(exp, dataset)
    fit_bias_baseline(exp, dataset, examples)
    with CFLog(exp, cf_artifact_dir(exp, dataset, examples)) as cf_log:
        found = train_cf(exp, dataset, examples, cf_log.epoch).path
        cf_log.kept()
    log(f"cf: logged in {cf_log.run}")
    return found


def train(exp: ExperimentConfig) -> Path:
    """``ckf train``: everything up to the trained model, without scoring it; returns the run folder."""
    return on_first_rank(exp, lambda: _run(exp, until_trained=True))


def run(exp: ExperimentConfig) -> Path:
    """``ckf``: the main job, from source files to the report; returns the run folder."""
    return on_first_rank(exp, lambda: _run(exp, until_trained=False))


def evaluate(
    run_path: Path,
    overrides: list[str],
    *,
    out: Path | None = None,
    elsewhere: Sequence[str] = (),
    cache: Path | None = None,
) -> Path:
    """``ckf evaluate run=…``: score a trained run again with its own config; ``evaluate.*`` may be overridden.

    With ``out``, results are written there and the run's own stay as they are.
    ``elsewhere`` names another dataset and split, ``cache`` where the run's artifacts are.
    """
    from ckf.config.compose import with_overrides
    from ckf.report.build import report

    exp, metadata = read_run(run_path, cache)
    if cache is not None:
        exp = dataclasses.replace(exp, paths=dataclasses.replace(exp.paths, cache=str(cache)))
    if overrides:
        exp = with_overrides(exp, overrides, allowed=("evaluate.", "trainer."))
    artifacts = metadata["artifacts"]
    if elsewhere:
        exp, artifacts = _on_other_data(exp, artifacts, elsewhere)
    for name in artifacts:  # before anything is written
        artifact_path({"artifacts": artifacts}, name, run_path)
    if out is None:
        _evaluate(exp, run_path, cache=cache)
        report([run_path], run_path)
        return run_path
    if (out / CONFIG).is_file() and "evaluates" not in read_json(out / METADATA):
        raise CkfError(f"{out}: is itself a run; name another folder")
    made = not out.exists()
    try:
        create_run(out, exp, artifacts)
        update_metadata(out, evaluates=str(run_path), git_of_run=metadata.get("git"))
        _evaluate(exp, run_path, out=out)
        report([out], out)
    except BaseException:
        if made:
            shutil.rmtree(out, ignore_errors=True)
        raise
    return out


def _on_other_data(
    exp: ExperimentConfig, artifacts: dict[str, dict[str, str]], elsewhere: Sequence[str]
) -> tuple[ExperimentConfig, dict[str, dict[str, str]]]:
    """The run's config and artifacts with another dataset, on which its CF model is trained again."""
    from ckf.config.compose import compose

    other = compose(list(elsewhere))[0]
    tasks = dataclasses.replace(exp.tasks, mixture=exp.task_mix)
    exp = dataclasses.replace(exp, dataset=other.dataset, split=other.split, tasks=tasks)
    dataset = prepare_dataset(exp)
    examples = prepare_examples(exp, dataset)
    made = {"dataset": dataset, "examples": examples}
    made |= {"cf": train_cf(exp, dataset, examples), "bias": fit_bias_baseline(exp, dataset, examples)}
    kept = {name: artifacts[name] for name in ("backbone",) if name in artifacts}
    return exp, {**kept, **{name: {"path": str(a.path), "hash": a.hash} for name, a in made.items()}}


def text_only_baseline(exp: ExperimentConfig) -> ExperimentConfig:
    """The text-only run with the same data, budget and seed: what a gain is measured against.

    Without adapters it trains nothing: the backbone is scored as it is. What it does not read has the same value for
    every experiment, so that they share one such run: the CF model (the bias baseline takes its place), noise on
    vectors, and what is asked of the model beyond the prepared examples.
    """
    trains = exp.lora.trains
    noise = exp.perturbation
    noise = dataclasses.replace(noise, vectors=0.0) if noise.titles or noise.shuffled_history else PerturbationConfig()
    plain = EvaluateConfig()
    scored = dataclasses.replace(
        exp.evaluate, candidate_source=plain.candidate_source, candidate_file=plain.candidate_file,
        protocols=plain.protocols, retrieval=plain.retrieval, rerank_items=plain.rerank_items,
        diagnostics_examples=plain.diagnostics_examples,
    )  # fmt: skip
    return dataclasses.replace(
        exp,
        fusion=NoFusionConfig(name="none"),
        cf=BiasConfig(name="bias"),
        perturbation=noise,
        evaluate=scored,
        curriculum=TextOnlyCurriculumConfig(name="text_only") if trains else NoCurriculumConfig(name="none"),
        method=MethodConfig(name="text_only"),
    )


def _text_run(exp: ExperimentConfig, dataset: Artifact) -> Path:
    """The finished text-only run: one that was asked for by itself with this CF model, else the baseline."""
    baseline = text_only_baseline(exp)
    asked = dataclasses.replace(
        baseline, cf=dataclasses.replace(exp.cf, out_of_fold=0), perturbation=exp.perturbation, evaluate=exp.evaluate
    )
    folder = _folder(asked, dataset)
    if is_finished(folder):
        log(f"finished already: {folder}")
        return folder
    return _run(dataclasses.replace(baseline, overwrite=False), until_trained=False)


def _folder(exp: ExperimentConfig, dataset: Artifact) -> Path:
    return run_folder(dataclasses.replace(content_key(exp), seed=exp.seed), dataset.hash)


def _run(exp: ExperimentConfig, *, until_trained: bool) -> Path:
    check_requirements(exp)
    dataset = prepare_dataset(exp)
    check_likes(exp, dataset)
    folder = _folder(exp, dataset)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if is_finished(folder) and not exp.overwrite:
            log(f"finished already: {folder} (overwrite=true runs it again)")
            return folder
        if exp.overwrite and folder.exists():
            shutil.rmtree(folder)
        _open_run(exp, dataset, folder)
        if exp.fusion.fuses and exp.baselines.text_only and not until_trained:
            log("text-only baseline first: the same data, steps and seed, without slots")
            text = _text_run(exp, dataset)
            update_metadata(folder, artifacts={TEXT: {"hash": text.name, **place_of(str(text), folder)}})
        trains = exp.backbone.name != "none"
        logger = _logger(exp, folder) if trains and exp.trainer.world_size == 1 else None
        try:
            if trains:
                _train(exp, folder, logger)
            if until_trained:
                return folder
            _evaluate(exp, folder)
            _report(folder)
            if trains and logger is None and isinstance(exp.logger, WandbConfig):
                logger = _logger(
                    exp, folder
                )  # the worker processes closed theirs; the same id continues the same W&B run
            if logger is not None:
                _mirror(logger, folder)
        finally:
            _finish(logger)
    return folder


def _open_run(exp: ExperimentConfig, dataset: Artifact, folder: Path) -> None:
    started = time.perf_counter()
    examples = prepare_examples(exp, dataset)
    bias = fit_bias_baseline(exp, dataset, examples)
    cf_artifact = train_cf(exp, dataset, examples)
    backbone, identity = get_backbone(exp, dataset)
    named = {"dataset": dataset, "examples": examples, "cf": cf_artifact, "bias": bias}
    artifacts = {name: {"path": str(a.path), "hash": a.hash} for name, a in named.items()}
    frozen = read_json(examples.path / "manifest.json")["candidate_lists_sha256"]
    if frozen:  # only rankings of the same lists may share a table column
        artifacts["examples"]["candidates"] = fingerprint(frozen)
    if backbone:
        artifacts["backbone"] = {"path": backbone, "hash": identity}
    if (folder / LAST).is_file() or (folder / PREVIOUS).is_file():
        log(f"train: continuing the unfinished run {folder}")
    create_run(folder, exp, artifacts)
    update_metadata(folder, stages={"artifacts": round(time.perf_counter() - started, 2)})


def _logger(exp: ExperimentConfig, folder: Path) -> Logger:
    from ckf.tracking.loggers import build_logger

    return build_logger(exp, folder)


def _mirror(logger: Logger, folder: Path) -> None:
    """Send the results on; a service that fails does not undo a finished run."""
    from ckf.report.wandb_tables import mirror_run

    try:
        mirror_run(logger, folder)
    except Exception as error:
        reason = first_line(error)
        log(f"logger: the results were not sent ({reason}); the run's files are complete")


def _finish(logger: Logger | None) -> None:
    if logger is not None:
        from ckf.tracking.loggers import finish

        finish(logger)


def _train(exp: ExperimentConfig, folder: Path, logger: Logger | None) -> None:
    log(f"train: {exp.method.name} on {exp.dataset.name} ({', '.join(t.name for t in exp.task_mix)}) -> {folder}")
    started = time.perf_counter()
    if exp.trainer.world_size > 1:
        train_together(exp, folder)
    else:
        from ckf.train.distributed.worker import train_run

        train_run(folder, logger)
    update_metadata(folder, stages={"train": round(time.perf_counter() - started, 2)})


def _evaluate(exp: ExperimentConfig, folder: Path, out: Path | None = None, cache: Path | None = None) -> None:
    from ckf.eval.evaluate import Baselines, evaluate_run
    from ckf.train.distributed.worker import run_inputs

    _, metadata = read_run(out or folder, cache)
    started = time.perf_counter()
    inputs = run_inputs(exp, metadata, folder)
    text = artifact_path(metadata, TEXT, folder) if TEXT in metadata["artifacts"] else None
    baselines = Baselines(artifact_path(metadata, "bias", folder), artifact_path(metadata, "cf", folder), text)
    evaluate_run(exp, inputs, folder, baselines, out=out)
    seconds = round(time.perf_counter() - started, 2)
    update_metadata(
        out or folder, data_warnings=data_warnings(inputs.dataset, inputs.examples), stages={"evaluate": seconds}
    )


def _report(folder: Path) -> None:
    from ckf.report.build import report

    report([folder], folder)
    log((folder / "report.md").read_text(encoding="utf-8"))
