"""Fit one run: build model and batches, let Lightning drive, save adapters and fusion."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import Logger

from ckf.assembly import Inputs, build_collators, task_names
from ckf.cf.leakage_check import check_no_overlap
from ckf.config.schema import ExperimentConfig, NoCurriculumConfig
from ckf.core.errors import CkfError
from ckf.model.backbone import load_tokenizer
from ckf.model.build import build_recommender, init_adapters
from ckf.model.checkpoint_io import save_model
from ckf.model.dummy_models import folder_bytes
from ckf.model.recommender import Recommender
from ckf.train.batching.batches import StepDataModule
from ckf.train.batching.step_dataset import run_steps
from ckf.train.batching.worker_transport import batch_workers
from ckf.train.checkpoints import Checkpoint, CheckpointFiles, say_on_stderr
from ckf.train.cost_estimate import CostEstimate, count_parameters, estimate_cost, memory_bytes
from ckf.train.module import FineTuning
from ckf.train.throughput import StepClock
from ckf.train.trainer import build_trainer, without_advice

WAITING = 0.05
"""Share of a step's time that its data may take before the user is told what to do about it."""


def fit(exp: ExperimentConfig, inputs: Inputs, run: Path, logger: Logger | None) -> dict[str, Any]:
    """Train a run and save its model; continues from ``checkpoints/last.ckpt`` when there is one.

    Returns counts for the run's card: steps, trainable parameters by part, prompts with cut history.
    """
    if inputs.cf is not None:
        check_no_overlap(inputs.cf, inputs.dataset, {*exp.evaluate.splits, "test"})
    device = "cuda" if exp.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    held = memory_bytes(device)
    collator = build_collators(exp, inputs, _tokenizer(exp, inputs))
    tasks = task_names(exp)
    model = build_recommender(exp, inputs.backbone, collator.tables, tasks)
    init_adapters(model, exp.lora, inputs.backbone)
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
            parts = count_parameters(model, getattr(exp.backbone, "quantization", "none"))
            foretold = estimate_cost(exp, parts, model.backbone.config, data, held_bytes=held, device=device)
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


def _account(
    foretold: CostEstimate | None, took: dict[str, float], run: Path, device: str, workers: int
) -> dict[str, Any]:
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
