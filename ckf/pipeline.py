"""The stages in order: prepare → cf → train → evaluate → report. Each reads artifacts and makes one."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ckf.artifacts import Artifact, Store, fingerprint, plain, read_json
from ckf.config.schema import (
    TASKS,
    BiasConfig,
    ExperimentConfig,
    HFBackboneConfig,
    MethodConfig,
    NoCurriculumConfig,
    NoFusionConfig,
    PretrainedConfig,
    TextOnlyCurriculumConfig,
    TinyBackboneConfig,
)
from ckf.errors import CkfError
from ckf.runs import LAST, PREVIOUS, artifact_path, is_finished, open_run, read_run, record, run_folder

CF_FORMAT = 2
"""Version of what a CF artifact holds; since 2 it says which rows it was trained on."""

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


def say(line: str) -> None:
    """Tell the user what happens; stdout's last line stays the run folder."""
    print(line, flush=True)


def store(exp: ExperimentConfig) -> Store:
    """The artifact cache of an experiment."""
    return Store(Path(exp.paths.cache), say)


# --- artifacts


def prepare_dataset(exp: ExperimentConfig) -> Artifact:
    """Interactions, items, users and their manifest."""
    from ckf.data.prepare import build_dataset, source_hashes

    settings = {**plain(exp.dataset), **{f"split.{k}": v for k, v in plain(exp.split).items()}}
    for key in ("root", "download"):  # input files count by content, not by where they lie or come from
        settings.pop(key, None)
    for key in ("provides", "default_steps", "default_cold_users_up_to", "memory_mb"):  # of runs and the machine
        settings.pop(key)
    hashes = [f"{name}:{digest}" for name, digest in sorted(source_hashes(exp.dataset).items())]
    return store(exp).get(
        "dataset", exp.dataset.name, settings, hashes, lambda out: build_dataset(exp.dataset, exp.split, out)
    )


def prepare_examples(exp: ExperimentConfig, dataset: Artifact) -> Artifact:
    """Prompts-to-be of every task the dataset provides, audited for leaks."""
    from ckf.data.examples import build_examples

    settings = {key: value for key, value in plain(exp.tasks).items() if key != "mix"}
    tasks = list(exp.dataset.provides)
    return store(exp).get(
        "examples",
        exp.dataset.name,
        {**settings, "tasks": tasks},
        [dataset.hash],
        lambda out: build_examples(
            dataset.path,
            tasks,
            history_items=exp.tasks.history_items,
            candidates=exp.tasks.candidates,
            review_words=exp.tasks.review_words,
            seed=exp.tasks.negatives_seed,
            same_time=exp.tasks.same_time,
            negatives=exp.tasks.negatives,
            protocol=exp.tasks.protocol,
            out=out,
        ),
    )


def train_cf(exp: ExperimentConfig, dataset: Artifact, examples: Artifact) -> Artifact:
    """The CF model of the config: vectors (where it has some) and predictions."""
    from ckf.cf.fit import build_cf

    named = _by_content(exp)
    return store(exp).get(
        "cf",
        exp.cf.name,
        {**plain(named.cf), "seed": named.seed, "format": CF_FORMAT},
        [dataset.hash, examples.hash],
        lambda out: build_cf(exp.cf, dataset.path, examples.path, exp.seed, out),
    )


def _by_content(exp: ExperimentConfig) -> ExperimentConfig:
    """The experiment as it is named: files of ``cf=pretrained`` count by content, and no seed draws anything there."""
    if not isinstance(exp.cf, PretrainedConfig):
        return exp
    from ckf.cf.pretrained import by_content

    return dataclasses.replace(exp, cf=by_content(exp.cf), seed=0)


def train_floor(exp: ExperimentConfig, dataset: Artifact, examples: Artifact) -> Artifact:
    """The ``bias`` model, whose row stands in every table."""
    floor = exp.cf if isinstance(exp.cf, BiasConfig) else BiasConfig(name="bias")
    return train_cf(dataclasses.replace(exp, cf=floor, seed=0), dataset, examples)


def get_backbone(exp: ExperimentConfig, dataset: Artifact) -> tuple[str, str]:
    """Path (or hub name) of the backbone and what identifies it; the tiny one is trained here once."""
    match exp.backbone:
        case HFBackboneConfig(path=path, revision=revision):
            return path, f"{path}@{revision}"
        case TinyBackboneConfig():
            from ckf.model.tiny import build_tiny

            wording = {task: getattr(exp.prompts, task).text for task in TASKS}  # slots do not shape the vocabulary
            settings = {**plain(exp.backbone), "pretrain": exp.pretrain, "prompts": wording}
            settings.pop("dtype")
            cfg = exp.backbone
            artifact = store(exp).get(
                "backbone",
                "tiny",
                settings,
                [dataset.hash],
                lambda out: build_tiny(cfg, exp.pretrain, exp.prompts, dataset.path, exp.pretrain.seed, out),
            )
            return str(artifact.path), artifact.hash
    return "", "none"


# --- stages as the command line calls them


def prepare(exp: ExperimentConfig, export: str = "", out: Path | None = None) -> Path:
    """``ckf prepare``: dataset and examples; returns the dataset's folder, or that of the ``export``."""
    dataset = prepare_dataset(exp)
    examples = prepare_examples(exp, dataset)
    from ckf.data.summary import summary

    for line in summary(dataset.path, examples.path):
        say(line)
    if not export:
        return dataset.path
    from ckf.data.export import export_dataset

    target = out or Path(exp.paths.outputs) / f"{dataset.path.name}-{export}"
    say(f"export: {export} -> {target}")
    return export_dataset(dataset.path, examples.path, export, target)


def cf(exp: ExperimentConfig) -> Path:
    """``ckf cf``: the CF model and the floor; returns the CF model's folder."""
    dataset = prepare_dataset(exp)
    examples = prepare_examples(exp, dataset)
    train_floor(exp, dataset, examples)
    return train_cf(exp, dataset, examples).path


def train(exp: ExperimentConfig) -> Path:
    """``ckf train``: everything up to the trained model, without scoring it; returns the run folder."""
    return _run(exp, until_trained=True)


def run(exp: ExperimentConfig) -> Path:
    """``ckf``: the main job, from source files to the report; returns the run folder."""
    return _run(exp, until_trained=False)


def evaluate(run_path: Path, overrides: list[str]) -> Path:
    """``ckf evaluate run=…``: score a trained run again with its own config; ``evaluate.*`` may be overridden."""
    from ckf.config.compose import with_overrides
    from ckf.report.build import report

    exp, _ = read_run(run_path)
    if overrides:
        exp = with_overrides(exp, overrides, allowed=("evaluate.", "trainer."))
    _evaluate(exp, run_path, None)
    report([run_path], run_path)
    return run_path


def text_companion(exp: ExperimentConfig) -> ExperimentConfig:
    """The text-only run with the same data, budget and seed: what a gain is measured against.

    Without adapters there is nothing that text could train: the backbone as it is.
    """
    trains = exp.lora.trains
    return dataclasses.replace(
        exp,
        fusion=NoFusionConfig(name="none"),
        curriculum=TextOnlyCurriculumConfig(name="text_only") if trains else NoCurriculumConfig(name="none"),
        method=MethodConfig(name="text_only"),
    )


def _run(exp: ExperimentConfig, *, until_trained: bool) -> Path:
    dataset = prepare_dataset(exp)
    folder = run_folder(dataclasses.replace(_by_content(exp), seed=exp.seed), dataset.hash)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if is_finished(folder) and not exp.force:
            say(f"finished already: {folder} (force=true runs it anew)")
            return folder
        if exp.force and folder.exists():
            shutil.rmtree(folder)
        _open_run(exp, dataset, folder)
        if exp.fusion.fuses and exp.baselines.text and not until_trained:
            say("text-only companion first: the same data, steps and seed, without slots")
            text = _run(dataclasses.replace(text_companion(exp), force=False), until_trained=False)
            record(folder, artifacts={"text": {"path": str(text), "hash": text.name}})
        trains = exp.backbone.name != "none"
        logger = _logger(exp, folder) if trains and exp.trainer.world_size == 1 else None
        try:
            if trains:
                _train(exp, folder, logger)
            if until_trained:
                return folder
            _evaluate(exp, folder, logger)
        finally:
            _finish(logger)
        _report(folder)
    return folder


def _open_run(exp: ExperimentConfig, dataset: Artifact, folder: Path) -> None:
    started = time.perf_counter()
    examples = prepare_examples(exp, dataset)
    floor = train_floor(exp, dataset, examples)
    cf_artifact = train_cf(exp, dataset, examples)
    backbone, identity = get_backbone(exp, dataset)
    named = {"dataset": dataset, "examples": examples, "cf": cf_artifact, "floor": floor}
    artifacts = {name: {"path": str(a.path), "hash": a.hash} for name, a in named.items()}
    frozen = read_json(examples.path / "manifest.json")["candidate_lists_sha256"]
    if frozen:  # rankings of one list may share a column, others may not
        artifacts["examples"]["candidates"] = fingerprint(frozen)
    if backbone:
        artifacts["backbone"] = {"path": backbone, "hash": identity}
    if (folder / LAST).is_file() or (folder / PREVIOUS).is_file():
        say(f"train: continuing the unfinished run {folder}")
    open_run(folder, exp, artifacts)
    record(folder, stages={"artifacts": round(time.perf_counter() - started, 2)})


def _logger(exp: ExperimentConfig, folder: Path) -> Logger:
    from ckf.train.loggers import build_logger

    return build_logger(exp, folder)


def _finish(logger: Logger | None) -> None:
    if logger is not None:
        from ckf.train.loggers import finish

        finish(logger)


def _train(exp: ExperimentConfig, folder: Path, logger: Logger | None) -> None:
    say(f"train: {exp.method.name} on {exp.dataset.name} ({', '.join(t.name for t in exp.task_mix)}) -> {folder}")
    started = time.perf_counter()
    if exp.trainer.world_size > 1:
        # Lightning starts the other ranks by running this program's command again, so the command
        # must be the training alone: a process of its own
        done = subprocess.run([sys.executable, "-m", "ckf.train.worker", str(folder)], check=False)
        if done.returncode:
            raise CkfError(
                f"{folder}: training with {exp.trainer.world_size} processes failed (status {done.returncode})"
            )
    else:
        from ckf.train.worker import train_run

        train_run(folder, logger)
    record(folder, stages={"train": round(time.perf_counter() - started, 2)})


def _evaluate(exp: ExperimentConfig, folder: Path, logger: Logger | None) -> None:
    from ckf.eval.evaluate import evaluate_run
    from ckf.train.worker import run_inputs

    _, card = read_run(folder)
    started = time.perf_counter()
    metrics = evaluate_run(
        exp,
        run_inputs(exp, card, folder),
        folder,
        floor=artifact_path(card, "floor", folder),
        cf=artifact_path(card, "cf", folder),
        text_run=artifact_path(card, "text", folder) if "text" in card["artifacts"] else None,
    )
    record(folder, stages={"evaluate": round(time.perf_counter() - started, 2)})
    if logger is not None:
        logger.log_metrics({f"final/{key}": value for key, value in metrics.items()})


def _report(folder: Path) -> None:
    from ckf.report.build import report

    report([folder], folder)
    say((folder / "report.md").read_text(encoding="utf-8"))
