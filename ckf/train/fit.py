"""Fit one run: build model and batches, let Lightning drive, save adapters and fusion."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers import Logger

from ckf.artifacts import read_json
from ckf.cf.leaks import refuse_overlap
from ckf.cf.vectors import VectorTables
from ckf.config.schema import BinaryFusionConfig, ExperimentConfig, NoCurriculumConfig, RandomFusionConfig
from ckf.data.records import ExampleTable
from ckf.errors import CkfError
from ckf.model.backbone import load_tokenizer
from ckf.model.build import build_recommender, start_adapters
from ckf.model.identity import check_identity
from ckf.model.recommender import Recommender
from ckf.model.saved import load_model, save_model
from ckf.prompts.codes import HashedCodes
from ckf.prompts.collate import Collator
from ckf.prompts.encode import PromptEncoder
from ckf.runs import CARD
from ckf.train.checkpoints import Checkpoint, CheckpointFiles, say_on_stderr
from ckf.train.curriculum import build_curriculum
from ckf.train.data import StepDataModule, StepDataset
from ckf.train.loggers import JsonlLogger
from ckf.train.module import FineTuning
from ckf.train.plan import BatchPlan
from ckf.train.sharing import stream_path


@dataclass(frozen=True)
class Inputs:
    """Folders of the artifacts that a run is made from; ``cf`` is None when nothing is fused."""

    dataset: Path
    examples: Path
    backbone: str
    cf: Path | None


def build_collator(exp: ExperimentConfig, inputs: Inputs, tokenizer: Any) -> Collator:
    """Make the collator of a run: titles, rating scale, wording and (memory-mapped) CF vectors."""
    items = pd.read_parquet(inputs.dataset / "items.parquet", columns=["item", "title"])
    titles = [""] * (int(items["item"].max()) + 1)
    for item, title in zip(items["item"], items["title"], strict=True):
        titles[item] = title
    encoder = PromptEncoder(
        tokenizer,
        exp.prompts,
        titles,
        rating_scale(inputs.examples),
        tokens_per_slot=exp.fusion.tokens_per_slot,
        max_length_tokens=exp.train.max_length_tokens,
        chat=getattr(exp.backbone, "chat_template", "none") == "auto",
    )
    tables = load_tables(exp, inputs)
    codes = None
    if isinstance(exp.fusion, BinaryFusionConfig) and tables is not None:
        dotted = exp.fusion.code == "dotted"
        codes = HashedCodes(tables, bits=exp.fusion.bits, dotted=dotted, seed=exp.fusion.hash_seed)
    return Collator(encoder, task_names(exp), tables, codes)


def load_tables(exp: ExperimentConfig, inputs: Inputs) -> VectorTables | None:
    """CF vectors of a run, shuffled for ``fusion=random``; None when nothing is fused."""
    if inputs.cf is None or not exp.fusion.reads_vectors:
        return None
    tables = VectorTables.load(inputs.cf)
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
    collator = build_collator(exp, inputs, _tokenizer(exp, inputs))
    tasks = task_names(exp)
    model = build_recommender(exp, inputs.backbone, collator.tables, tasks)
    start_adapters(model, exp.lora, inputs.backbone)
    if isinstance(exp.curriculum, NoCurriculumConfig):
        save_model(model, collator.encoder.tokenizer, inputs.backbone, run)
        return {"steps": 0, "examples_per_step": 0, **_parameter_counts(model), "history_cut": 0}
    table = ExampleTable(inputs.examples / "examples.parquet", "train", tasks)
    weights = [task.weight for task in exp.task_mix]
    plan = BatchPlan(table.task_index, tasks, weights, exp.train.global_batch_size, exp.seed)
    steps = exp.train.max_steps or plan.steps(exp.train.epochs)
    curriculum = build_curriculum(exp.curriculum, steps)
    checkpoint, first_step = CheckpointFiles(run).newest(say_on_stderr)
    path = stream_path(curriculum, table, collator)
    module = FineTuning(model, curriculum, exp.train, exp.seed)
    saver = Checkpoint(run, exp.train.checkpoint_every_steps)
    trainer = _trainer(exp, run, steps, first_step, logger, saver)
    dataset = StepDataset(
        table,
        collator,
        plan,
        steps=steps,
        curriculum=curriculum,
        task_weights=weights,
        length_buckets=exp.train.length_buckets,
        accumulation_steps=exp.train.accumulation_steps,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        share_prefix=path.shared,
    )
    if trainer.is_global_zero:
        say_on_stderr(f"train: {steps} steps of {exp.train.global_batch_size} examples; streams: {path}")
    data = StepDataModule(dataset, first_step, exp.train.workers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*mid-epoch.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # the frozen backbone
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")  # Lightning's own
        if first_step < steps:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        elif checkpoint is not None:  # trained to the end, and killed before its model was saved, or trained alone
            module.load_state_dict(
                torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"], strict=False
            )
    if first_step < steps and trainer.global_step < steps:
        why = "saved" if saver.stop.asked else "which is not the end of its schedule"
        raise CkfError(f"{run}: stopped at step {trainer.global_step} of {steps}, {why}; the same command continues it")
    if trainer.is_global_zero:
        save_model(model, collator.encoder.tokenizer, inputs.backbone, run)
    return {
        "steps": steps,
        "examples_per_step": exp.train.global_batch_size,
        "streams": str(path),
        **_parameter_counts(model),
        "history_cut": module.history_cut,
    }


def _parameter_counts(model: Recommender) -> dict[str, int]:
    return {
        "adapter_parameters": sum(p.numel() for p in model.adapter_parameters()),
        "fusion_parameters": sum(p.numel() for p in model.fusion_parameters()),
        "backbone_parameters": sum(p.numel() for p in model.backbone.parameters() if not p.requires_grad),
    }


def _tokenizer(exp: ExperimentConfig, inputs: Inputs) -> Any:
    revision = getattr(exp.backbone, "revision", None)
    return load_tokenizer(inputs.backbone, revision, getattr(exp.backbone, "trust_remote_code", False))


def _trainer(
    exp: ExperimentConfig, run: Path, steps: int, first_step: int, logger: Logger | None, saver: Checkpoint
) -> pl.Trainer:
    from hydra.utils import get_class

    # which devices there are, and advertisements, are not news to who chose the trainer
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    cfg = exp.trainer
    return get_class(cfg._target_)(
        accelerator=cfg.accelerator,
        devices=cfg.devices,
        num_nodes=cfg.num_nodes,
        strategy=_strategy(cfg.strategy, cfg.accelerator),
        precision=cfg.precision,
        max_steps=steps,
        max_epochs=1,
        accumulate_grad_batches=exp.train.accumulation_steps,
        gradient_clip_val=exp.train.gradient_clip,
        log_every_n_steps=exp.train.log_every_steps,
        logger=[JsonlLogger(run, first_step), *([logger] if logger else [])],
        callbacks=[saver, Progress(refresh_rate=10)],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=str(run),
    )


def _strategy(name: str, accelerator: str) -> Any:
    if name == "ddp" and accelerator == "cpu":
        from pytorch_lightning.strategies import DDPStrategy

        return DDPStrategy(process_group_backend="gloo")
    return name


class Progress(TQDMProgressBar):
    """Lightning's bar on stderr: stdout is for what the run says and its folder."""

    def init_train_tqdm(self) -> Tqdm:
        """Make the bar over the steps."""
        return Tqdm(desc="training", unit="step", leave=True, dynamic_ncols=True, file=sys.stderr, mininterval=1.0)
