"""Build the objects of a run from its config and artifacts: inputs, vector tables, collatorss, trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ckf.cf.vectors.tables import VectorTables
from ckf.config.schema import BinaryFusionConfig, ExperimentConfig, RandomFusionConfig
from ckf.core.artifact_store import read_json
from ckf.data.titles import read_item_titles
from ckf.model.backbone import load_tokenizer
from ckf.model.build import build_recommender
from ckf.model.checkpoint_io import load_model
from ckf.model.provenance import check_identity
from ckf.model.recommender import Recommender
from ckf.prompts.binary_codes import HashedCodes
from ckf.prompts.collate import Collators
from ckf.prompts.encode import PromptEncoder
from ckf.prompts.perturbation import perturb_titles
from ckf.runs.folder import METADATA
from ckf.tasks import BUILT_IN
from ckf.tasks.rating import rating_text


@dataclass(frozen=True)
class Inputs:
    """Folders of the artifacts that a run is made from; ``cf`` is None where no CF vectors are read."""

    dataset: Path
    examples: Path
    backbone: str
    cf: Path | None


def build_collators(
    exp: ExperimentConfig, inputs: Inputs, tokenizer: Any, tables: VectorTables | None = None
) -> Collators:
    """Make the collators of a run: titles, rating scale, wording and CF vectors (memory-mapped, unless given)."""
    titles = read_item_titles(inputs.dataset)
    if exp.perturbation.titles:
        titles = perturb_titles(titles, exp.perturbation.titles, exp.perturbation.perturbation_seed)
    encoder = PromptEncoder(
        tokenizer,
        exp.prompts,
        titles,
        rating_scale(inputs.examples),
        tokens_per_slot=exp.fusion.tokens_per_slot,
        max_length_tokens=exp.train.max_length_tokens,
        chat=getattr(exp.backbone, "chat_template", "none") == "auto",
        shuffle_seed=exp.perturbation.perturbation_seed if exp.perturbation.shuffled_history else None,
        tasks=exp.task_set,
    )
    tables = tables or load_tables(exp, inputs)
    codes = None
    if isinstance(exp.fusion, BinaryFusionConfig) and tables is not None:
        dotted = exp.fusion.code == "dotted"
        codes = HashedCodes(tables, bits=exp.fusion.bits, dotted=dotted, seed=exp.fusion.hash_seed)
    return Collators(encoder, task_names(exp), tables, codes)


def load_tables(exp: ExperimentConfig, inputs: Inputs) -> VectorTables | None:
    """CF vectors of a run, shuffled for ``fusion=random`` and perturbed as configured; None where none are read."""
    if inputs.cf is None or not exp.fusion.reads_vectors:
        return None
    tables = VectorTables.load(inputs.cf)
    if exp.perturbation.vectors:
        tables = tables.noisy(exp.perturbation.vectors, exp.perturbation.perturbation_seed)
    return tables.shuffled(exp.seed) if isinstance(exp.fusion, RandomFusionConfig) else tables


def rating_scale(examples: Path) -> list[str]:
    """The ratings of the training split's examples as text, lowest first; empty where there are none."""
    names = [name for name, task in BUILT_IN.items() if task.on_rating_scale]
    rated = [("split", "==", "train"), ("task", "in", names)]
    labels = pd.read_parquet(examples / "examples.parquet", columns=["label"], filters=rated)["label"]
    return [rating_text(value) for value in sorted(labels.unique())]


def task_names(exp: ExperimentConfig) -> list[str]:
    """Tasks of a run in the order of their indices."""
    return [task.name for task in exp.task_mix]


def scored_tasks(exp: ExperimentConfig) -> list[str]:
    """The tasks of a run whose answers are scored, in the order of their indices."""
    return [task.name for task in exp.scored_mix]


def load_trained(exp: ExperimentConfig, inputs: Inputs, run: Path) -> tuple[Recommender, Collators]:
    """Rebuild a trained run's model and collators from its folder alone (its tokenizer, its config).

    Raises:
        ArtifactError: its backbone or tokenizer is missing or differs (`ckf.model.provenance`).
    """
    metadata, revision = read_json(run / METADATA), getattr(exp.backbone, "revision", None)
    check_identity(run, metadata, inputs.backbone, revision)
    collators = build_collators(exp, inputs, load_tokenizer(run / "tokenizer"))
    model = build_recommender(exp, inputs.backbone, collators.tables, task_names(exp))
    check_identity(run, metadata, inputs.backbone, revision)  # a hub model is in the cache only now
    load_model(model, run)
    return model.eval().requires_grad_(False), collators
