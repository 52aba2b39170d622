"""Further rankings: the whole catalogue, re-ranking, and other ways to answer a candidate list."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ckf.config.schema import EmbeddingConfig, ExperimentConfig
from ckf.data.example_table import Example, ExampleTable
from ckf.eval.full_ranking import Catalogue, Scores, rank_catalogue, reranked
from ckf.eval.predictions import list_rows
from ckf.eval.protocols import TAGS, answered_lists, needs_item_slots, slot_match
from ckf.eval.retrieval import CFRetrieval, Positives
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collators


@dataclass(frozen=True)
class Sources:
    """What can order a catalogue: the trained model with its collators (None without a model), and the artifacts."""

    loaded: tuple[Recommender, Collators] | None
    dataset: Path
    cf: Path
    device: torch.device


def further_rankings(exp: ExperimentConfig, sources: Sources, table: ExampleTable) -> dict[str, pd.DataFrame]:
    """Rows of each further protocol that the config asks for, by the tag of its metrics; ``table``: topk alone.

    Raises:
        ArtifactError: a CF model without vectors. ConfigError: a model that cannot do what is asked.
    """
    found = {}
    if exp.evaluate.candidate_source == "all":
        found.update(_whole(exp, sources, table))
    if sources.loaded is not None:
        for protocol in exp.evaluate.protocols:
            found[TAGS[protocol]] = answered_lists(
                *sources.loaded, table, protocol, "model", slots=exp.fusion.fuses,
                batch_size=exp.evaluate.batch_size, device=sources.device,
            )  # fmt: skip
    return found


def _whole(exp: ExperimentConfig, sources: Sources, table: ExampleTable) -> dict[str, pd.DataFrame]:
    catalogue = load_catalogue(sources.dataset)
    frames = [rank_catalogue(table, catalogue, popularity(catalogue), "bias")]
    retrieval = retrieval_of(exp, sources, catalogue)
    own = exp.evaluate.retrieval == "slots"
    frames.append(rank_catalogue(table, catalogue, retrieval, "model" if own else "cf"))
    found = {"full": pd.concat(frames, ignore_index=True)}
    if sources.loaded is not None:
        n = min(exp.evaluate.rerank_items, len(catalogue.items))
        found[f"rerank{n}"] = reranked(
            *sources.loaded, table, catalogue, retrieval, "model", n=n, slots=exp.fusion.fuses, device=sources.device
        )
    return found


def baseline_lists(exp: ExperimentConfig, sources: Sources, table: ExampleTable) -> list[pd.DataFrame]:
    """Scores of given lists by the CF model's vectors, where it has some, and by popularity; ``table``: topk alone."""
    catalogue = load_catalogue(sources.dataset)
    orders = {"bias": popularity(catalogue)}
    if (sources.cf / "items.safetensors").is_file():
        by_cf = dataclasses.replace(exp.evaluate, retrieval="cf")
        orders["cf"] = retrieval_of(dataclasses.replace(exp, evaluate=by_cf), sources, catalogue)
    frames = []
    for source, scores in orders.items():
        parts = [scores([table[row]])[0][table.list_of("candidates", row)] for row in range(len(table))]
        frame = list_rows(table, np.arange(len(table)), source)
        frames.append(frame.assign(score=np.concatenate(parts), answer=""))
    return frames


def load_catalogue(dataset: Path) -> Catalogue:
    """The items of a dataset and the likes of its users."""
    items = np.sort(pd.read_parquet(dataset / "items.parquet", columns=["item"])["item"].to_numpy(np.int64))
    return Catalogue(items, Positives.load(dataset, int(items[-1])))


def popularity(catalogue: Catalogue) -> Scores:
    """The bias baseline's order: how often an item was liked in training, the same for everybody."""
    counts = catalogue.positives.counts.astype(float)
    return lambda examples: np.broadcast_to(counts, (len(examples), len(counts)))


def retrieval_of(exp: ExperimentConfig, sources: Sources, catalogue: Catalogue) -> Scores:
    """Scores of the whole catalogue by what ``evaluate.retrieval`` names.

    Raises:
        ArtifactError: a CF model without vectors. ConfigError: a model without item slots.
    """
    if exp.evaluate.retrieval == "cf":
        biased = isinstance(exp.cf, EmbeddingConfig)
        by_vectors = CFRetrieval.load(sources.cf, catalogue.positives.counts, biased=biased)
        return lambda examples: by_vectors.scores(user_vectors(by_vectors, examples))
    needs_item_slots(sources.loaded[0] if sources.loaded else None)
    assert sources.loaded is not None, "looked at by needs_item_slots"
    model, collators = sources.loaded
    model.to(sources.device).eval()

    def match(examples: list[Example]) -> np.ndarray:
        scores = np.zeros((len(examples), len(catalogue.positives.counts)))
        for row, example in enumerate(examples):
            asked = [catalogue.items]
            scores[row, catalogue.items] = slot_match(model, collators, [example], asked, device=sources.device)[0]
        return scores

    return match


def user_vectors(retrieval: CFRetrieval, examples: list[Example]) -> torch.Tensor:
    """Vectors of the examples' users, as of the example where the CF model reads histories; zeros for the unknown."""
    tables = retrieval.tables
    if tables.example_users is not None:
        return tables.example_users.of([example.example_id for example in examples])
    users = torch.tensor([example.user if example.user < len(tables.users) else 0 for example in examples])
    return tables.users[users]
