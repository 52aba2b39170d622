"""Fit one run: build model and batches, train with Lightning, save adapters and fusion."""

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
from ckf.model.peft_io import records_backbone
from ckf.model.provenance import weights_content
from ckf.model.recommender import Recommender
from ckf.train.batching.batches import StepDataModule
from ckf.train.batching.step_dataset import run_steps
from ckf.train.batching.worker_transport import batch_workers
from ckf.train.checkpoints import Checkpoint, CheckpointFiles, log_to_stderr
from ckf.train.cost_estimate import CostEstimate, count_parameters, estimate_cost, memory_bytes
from ckf.train.module import FineTuning
from ckf.train.throughput import StepClock
from ckf.train.trainer import build_trainer, without_advice

MAX_WAITING_FRACTION = 0.05
"""Fraction of a step's time spent waiting for data above which the user is advised."""


def fit(exp: ExperimentConfig, inputs: Inputs, run: Path, logger: Logger | None) -> dict[str, Any]:
    """Train a run and save its model; continue from ``checkpoints/last.ckpt`` when there is one.

    Returns what the run's metadata keeps: steps, trained parameters by part, cost, prompts with cut history.

    Raises:
        CkfError: the run was stopped before its last step; the same command continues it.
        ArtifactError: a file that the run needs is missing.
    """
    if inputs.cf is not None:
        check_no_overlap(inputs.cf, inputs.dataset, {*exp.evaluate.splits, "test"})
    device = "cuda" if exp.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    held = memory_bytes(device)
    collators = build_collators(exp, inputs, _tokenizer(exp, inputs))
    tasks = task_names(exp)
    model = build_recommender(exp, inputs.backbone, collators.tables, tasks)
    weights = weights_content(inputs.backbone, getattr(exp.backbone, "revision", None))
    init_adapters(model, exp.lora, weights)
    unknown = [entry.path for entry in exp.lora.init if not records_backbone(Path(entry.path))]
    started = {"adapters_of_unknown_weights": unknown} if unknown else {}
    if isinstance(exp.curriculum, NoCurriculumConfig):
        save_model(model, collators.encoder.tokenizer, inputs.backbone, run, weights)
        return {"steps": 0, "examples_per_step": 0, **_parameter_counts(model), "history_cut": 0, **started}
    checkpoint, first_step = CheckpointFiles(run).newest(log_to_stderr)
    saver, clock = Checkpoint(run, exp.train.checkpoint_every_steps), StepClock()
    data, mode = run_steps(exp, inputs.examples, collators, model.backbone.config)
    workers = batch_workers(exp.train.workers)
    trainer = build_trainer(exp, run, data.steps, first_step, logger, [saver, clock])
    data.rank = trainer.global_rank
    estimate = None
    if trainer.is_global_zero:
        log_to_stderr(f"train: {data.steps} steps of {exp.train.global_batch_size} examples; streams: {mode}")
        if first_step == 0:
            counts = count_parameters(model, getattr(exp.backbone, "quantization", "none"))
            estimate = estimate_cost(exp, counts, model.backbone.config, data, held_bytes=held, device=device)
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
        why = "saved" if saver.stop.requested else "which is not the end of its schedule"
        raise CkfError(
            f"{run}: stopped at step {trainer.global_step} of {data.steps}, {why}; the same command continues it"
        )
    if trainer.is_global_zero:
        save_model(model, collators.encoder.tokenizer, inputs.backbone, run, weights)
    measured = clock.counts(first_step)
    cost = {"examples_per_second": exp.train.global_batch_size / measured["seconds_per_step"]} if measured else {}
    return {
        "steps": data.steps,
        "examples_per_step": exp.train.global_batch_size,
        **cost,
        "peak_memory_gib": memory_bytes(device) / 2**30,
        "streams": str(mode),
        **_parameter_counts(model),
        **_compare_cost(estimate, measured, run, device, workers),
        "history_cut": module.history_cut,
        **started,
    }


def _compare_cost(
    estimate: CostEstimate | None, measured: dict[str, float], run: Path, device: str, workers: int
) -> dict[str, Any]:
    """Predicted and measured cost for the run's metadata; also shown to the user."""
    if estimate is None or not measured:
        return {"measured": measured} if measured else {}
    measured = {**measured, "peak_memory_bytes": memory_bytes(device), "disk_bytes": _folder_bytes(run)}
    log_to_stderr(f"train: {estimate.compare(measured)}")
    if measured["waiting_share"] > MAX_WAITING_FRACTION and not workers:
        log_to_stderr("train: the steps wait for their data; train.workers=1 prepares it in a process of its own")
    return {"predicted": dataclasses.asdict(estimate), "measured": measured}


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _parameter_counts(model: Recommender) -> dict[str, int]:
    return {
        "adapter_parameters": sum(p.numel() for p in model.adapter_parameters()),
        "fusion_parameters": sum(p.numel() for p in model.fusion_parameters()),
        "backbone_parameters": sum(p.numel() for p in model.backbone.parameters() if not p.requires_grad),
    }


def _tokenizer(exp: ExperimentConfig, inputs: Inputs) -> Any:
    revision = getattr(exp.backbone, "revision", None)
    return load_tokenizer(inputs.backbone, revision, getattr(exp.backbone, "trust_remote_code", False))
