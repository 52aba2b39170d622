"""Fit one run: build model and batches, let Lightning drive, save adapters and fusion."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning.loggers import Logger

from ckf.artifacts import read_json
from ckf.cf.leaks import refuse_overlap
from ckf.cf.vectors import VectorTables
from ckf.config.schema import BinaryFusionConfig, ExperimentConfig, NoCurriculumConfig, RandomFusionConfig
from ckf.errors import CkfError
from ckf.model.backbone import load_tokenizer
from ckf.model.build import build_recommender, start_adapters
from ckf.model.identity import check_identity
from ckf.model.recommender import Recommender
from ckf.model.saved import load_model, save_model
from ckf.model.shape import folder_bytes
from ckf.prompts.codes import HashedCodes
from ckf.prompts.collate import Collator
from ckf.prompts.encode import PromptEncoder
from ckf.prompts.noise import noisy_titles
from ckf.runs import CARD
from ckf.train.checkpoints import Checkpoint, CheckpointFiles, say_on_stderr
from ckf.train.clock import StepClock
from ckf.train.data import StepDataModule
from ckf.train.forecast import Forecast, forecast, memory_bytes, parts_of
from ckf.train.module import FineTuning
from ckf.train.packed import batch_workers
from ckf.train.steps import run_steps
from ckf.train.trainer import build_trainer, without_advice

WAITING = 0.05
"""Share of a step's time that its data may take before the user is told what to do about it."""


@dataclass(frozen=True)
class Inputs:
    """Folders of the artifacts that a run is made from; ``cf`` is None when nothing is fused."""

    dataset: Path
    examples: Path
    backbone: str
    cf: Path | None


def build_collator(
    exp: ExperimentConfig, inputs: Inputs, tokenizer: Any, tables: VectorTables | None = None
) -> Collator:
    """Make the collator of a run: titles, rating scale, wording and CF vectors (memory-mapped, unless given)."""
    items = pd.read_parquet(inputs.dataset / "items.parquet", columns=["item", "title"])
    titles = [""] * (int(items["item"].max()) + 1)
    for item, title in zip(items["item"], items["title"], strict=True):
        titles[item] = title
    if exp.noise.titles:
        titles = noisy_titles(titles, exp.noise.titles, exp.noise.noise_seed)
    encoder = PromptEncoder(
        tokenizer,
        exp.prompts,
        titles,
        rating_scale(inputs.examples),
        tokens_per_slot=exp.fusion.tokens_per_slot,
        max_length_tokens=exp.train.max_length_tokens,
        chat=getattr(exp.backbone, "chat_template", "none") == "auto",
        shuffle_seed=exp.noise.noise_seed if exp.noise.shuffled_history else None,
    )
    tables = tables or load_tables(exp, inputs)
    codes = None
    if isinstance(exp.fusion, BinaryFusionConfig) and tables is not None:
        dotted = exp.fusion.code == "dotted"
        codes = HashedCodes(tables, bits=exp.fusion.bits, dotted=dotted, seed=exp.fusion.hash_seed)
    return Collator(encoder, task_names(exp), tables, codes)


def load_tables(exp: ExperimentConfig, inputs: Inputs) -> VectorTables | None:
    """CF vectors of a run, shuffled for ``fusion=random``, with the noise asked for; None when nothing is fused."""
    if inputs.cf is None or not exp.fusion.reads_vectors:
        return None
    tables = VectorTables.load(inputs.cf)
    if exp.noise.vectors:
        tables = tables.noisy(exp.noise.vectors, exp.noise.noise_seed)
    return tables.shuffled(exp.seed) if isinstance(exp.fusion, RandomFusionConfig) else tables


def rating_scale(examples: Path) -> list[str]:
    """The ratings of the training split's examples as text, lowest first; empty where there are none."""
    rated = [("split", "==", "train"), ("task", "in", ["rating", "explain"])]
    labels = pd.read_parquet(examples / "examples.parquet", columns=["label"], filters=rated)["label"]
    return [f"{value:g}" for value in sorted(labels.unique())]


def task_names(exp: ExperimentConfig) -> list[str]:
    """Tasks of a run in the order of their indices."""
    return [task.name for task in exp.task_mix]


def scored_tasks(exp: ExperimentConfig) -> list[str]:
    """Those of them whose answers are scored."""
    return [task.name for task in exp.scored_mix]


def load_trained(exp: ExperimentConfig, inputs: Inputs, run: Path) -> tuple[Recommender, Collator]:
    """Rebuild a trained run's model and collator from its folder alone (its tokenizer, its config).

    Raises:
        ArtifactError: its backbone or tokenizer is gone or is another one (`ckf.model.identity`).
    """
    card, revision = read_json(run / CARD), getattr(exp.backbone, "revision", None)
    check_identity(run, card, inputs.backbone, revision)
    collator = build_collator(exp, inputs, load_tokenizer(run / "tokenizer"))
    model = build_recommender(exp, inputs.backbone, collator.tables, task_names(exp))
    check_identity(run, card, inputs.backbone, revision)  # a hub name is in the cache only now
    load_model(model, run)
    return model.eval(), collator


def fit(exp: ExperimentConfig, inputs: Inputs, run: Path, logger: Logger | None) -> dict[str, Any]:
    """Train a run and save its model; continues from ``checkpoints/last.ckpt`` when there is one.

    Returns counts for the run's card: steps, trainable parameters by part, prompts with cut history.
    """
    if inputs.cf is not None:
        refuse_overlap(inputs.cf, inputs.dataset, {*exp.evaluate.splits, "test"})
    device = "cuda" if exp.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    held = memory_bytes(device)
    collator = build_collator(exp, inputs, _tokenizer(exp, inputs))
    tasks = task_names(exp)
    model = build_recommender(exp, inputs.backbone, collator.tables, tasks)
    start_adapters(model, exp.lora, inputs.backbone)
    if isinstance(exp.curriculum, NoCurriculumConfig):
        save_model(model, collator.encoder.tokenizer, inputs.backbone, run)
        return {"steps": 0, "examples_per_step": 0, **_parameter_counts(model), "history_cut": 0}
    checkpoint, first_step = CheckpointFiles(run).newest(say_on_stderr)
    saver, clock = Checkpoint(run, exp.train.checkpoint_every_steps), StepClock()
    data, path = run_steps(exp, inputs.examples, collator, model.backbone.config)
    workers = batch_workers(exp.train.workers)
    trainer = build_trainer(exp, run, data.steps, first_step, logger, [saver, clock])
    data.rank = trainer.global_rank
    foretold = None
    if trainer.is_global_zero:
        say_on_stderr(f"train: {data.steps} steps of {exp.train.global_batch_size} examples; streams: {path}")
        if first_step == 0:
            parts = parts_of(model, getattr(exp.backbone, "quantization", "none"))
            foretold = forecast(exp, parts, model.backbone.config, data, held_bytes=held, device=device)
    module = FineTuning(model, data.curriculum, exp.train, exp.seed, sharded=exp.trainer.strategy == "fsdp")
    with without_advice():
        if first_step < data.steps:
            loader = StepDataModule(data, first_step, workers)
            trainer.fit(module, datamodule=loader, ckpt_path=checkpoint, weights_only=True)
        elif checkpoint is not None:  # trained to the end, and killed before its model was saved, or trained alone
            module.load_state_dict(
                torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"], strict=False
            )
    if first_step < data.steps and trainer.global_step < data.steps:
        why = "saved" if saver.stop.asked else "which is not the end of its schedule"
        raise CkfError(
            f"{run}: stopped at step {trainer.global_step} of {data.steps}, {why}; the same command continues it"
        )
    if trainer.is_global_zero:
        save_model(model, collator.encoder.tokenizer, inputs.backbone, run)
    took = clock.counts(first_step)
    cost = {"examples_per_second": exp.train.global_batch_size / took["seconds_per_step"]} if took else {}
    return {
        "steps": data.steps,
        "examples_per_step": exp.train.global_batch_size,
        **cost,
        "peak_memory_gib": memory_bytes(device) / 2**30,
        "streams": str(path),
        **_parameter_counts(model),
        **_account(foretold, took, run, device, workers),
        "history_cut": module.history_cut,
    }


def _account(foretold: Forecast | None, took: dict[str, float], run: Path, device: str, workers: int) -> dict[str, Any]:
    """What was foretold and what it took, for the run's card; told to the user too."""
    if foretold is None or not took:
        return {"took": took} if took else {}
    took = {**took, "peak_memory_bytes": memory_bytes(device), "disk_bytes": folder_bytes(run)}
    say_on_stderr(f"train: {foretold.beside(took)}")
    if took["waiting_share"] > WAITING and not workers:
        say_on_stderr("train: the steps wait for their data; train.workers=1 prepares it in a process of its own")
    return {"predicted": dataclasses.asdict(foretold), "took": took}


def _parameter_counts(model: Recommender) -> dict[str, int]:
    return {
        "adapter_parameters": sum(p.numel() for p in model.adapter_parameters()),
        "fusion_parameters": sum(p.numel() for p in model.fusion_parameters()),
        "backbone_parameters": sum(p.numel() for p in model.backbone.parameters() if not p.requires_grad),
    }


def _tokenizer(exp: ExperimentConfig, inputs: Inputs) -> Any:
    revision = getattr(exp.backbone, "revision", None)
    return load_tokenizer(inputs.backbone, revision, getattr(exp.backbone, "trust_remote_code", False))
