"""Use a finished run from Python: recommend items for a user, score rows that a user supplies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ckf.assembly import Inputs, load_trained, scored_tasks
from ckf.config.schema import EmbeddingConfig, ExperimentConfig
from ckf.core.errors import DataError
from ckf.core.split_names import SPLITS
from ckf.data.example_table import Example, ExampleTable
from ckf.eval.evaluate import device_of
from ckf.eval.extra_protocols import load_catalogue
from ckf.eval.full_ranking import Catalogue, best_items, scores_of_task, task_of_items
from ckf.eval.retrieval import CFRetrieval
from ckf.eval.reviews import written_reviews
from ckf.inference.adhoc_user_vectors import AdhocUserVectors
from ckf.inference.dataset_index import DatasetIndex
from ckf.inference.request_rows import score_rows
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collators
from ckf.runs.artifact_places import artifact_path
from ckf.runs.folder import read_run
from ckf.tasks import BUILT_IN, DEFAULT_TASK
from ckf.train.distributed.worker import run_inputs


@dataclass
class Predictor:
    """A trained run with everything it needs: `recommend` for one user, `predict` for rows of one's own.

    ``model`` and ``collators`` are None for methods without a language model.
    """

    run: Path
    exp: ExperimentConfig
    inputs: Inputs
    cf: Path
    model: Recommender | None
    collators: Collators | None

    @classmethod
    def load(cls, run: Path, cache: Path | None = None) -> Predictor:
        """Load a run from its folder; its artifacts are looked for in ``cache`` first.

        Raises:
            ArtifactError: it is none, or a file, its data or its backbone is missing or altered.
        """
        exp, metadata = read_run(run, cache)
        inputs = run_inputs(exp, metadata, run)
        model, collators = load_trained(exp, inputs, run) if exp.backbone.name != "none" else (None, None)
        if model is not None:
            model.to(device_of(exp)).eval()
        return cls(run, exp, inputs, artifact_path(metadata, "cf", run), model, collators)

    @cached_property
    def known(self) -> DatasetIndex:
        """Ids, titles and every user's interactions."""
        return DatasetIndex.load(self.inputs.dataset, self.exp.tasks.history_items)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items that can be recommended."""
        return load_catalogue(self.inputs.dataset)

    @cached_property
    def retrieval(self) -> CFRetrieval:
        """The CF model's ranking of the catalogue."""
        biased = isinstance(self.exp.cf, EmbeddingConfig)
        return CFRetrieval.load(self.cf, self.catalogue.positives.counts, biased=biased)

    @cached_property
    def own_users(self) -> AdhocUserVectors:
        """User vectors for prompts that are not prepared examples."""
        return AdhocUserVectors(self.inputs.examples)

    @cached_property
    def prepared(self) -> dict[str, tuple[ExampleTable, int]]:
        """The run's prepared examples by their ids: their table and row."""
        path, tasks = self.inputs.examples / "examples.parquet", scored_tasks(self.exp)
        tables = [ExampleTable(path, split, tasks) for split in SPLITS]
        return {name: (table, row) for table in tables for row, name in enumerate(table.example_id)}

    def recommend(self, user: object, top: int = 10, *, rerank: int = 100, seen: bool = False) -> pd.DataFrame:
        """The ``top`` items for a user, best first: ``place``, ``item`` (raw id), ``title``, ``score``, ``rating``.

        The CF model retrieves ``rerank`` items, the language model orders them by its probability of a Yes
        (``score``; the expected rating where it was not trained on ctr). Items that the user has met are left
        out unless ``seen``; a model that writes adds a line of ``why``. A user that the data does not know gets
        what a new user would: popular items, scored by a model without a history. ``attrs`` of the frame
        say whether the user was ``known``.

        Raises:
            DataError: ``top`` is below 1. ConfigError: the model was trained on neither ctr nor rating.
        """
        if top < 1:
            raise DataError(f"top: must be at least 1, got {top}")
        number = self.known.user(user)
        example = self.known.example(DEFAULT_TASK, BUILT_IN[DEFAULT_TASK], number, 0)
        scores = self.retrieval.scores(self.own_users.of(self.retrieval.tables, [example]))[0]
        order = np.full(len(scores), -np.inf)
        order[self.catalogue.items] = scores[self.catalogue.items]
        if not seen:
            order[self.known.seen_items(number)] = -np.inf
        items = best_items(order, max(rerank, top))
        figures = self._judge(example, items) if self.model is not None else {"score": order[items]}
        best = np.argsort(-figures["score"], kind="stable")[:top]
        chosen = items[best]
        unrated = np.full(len(items), np.nan)
        frame = pd.DataFrame(
            {
                "place": np.arange(1, len(best) + 1),
                "item": [self.known.raw_items[item] for item in chosen],
                "title": [self.known.titles[item] for item in chosen],
                "score": figures["score"][best],
                "rating": figures.get("rating", unrated)[best],
            }
        )
        if self.exp.written_mix and self.collators is not None:
            frame["why"] = self._why(example, chosen, frame["rating"].to_numpy())
        frame.attrs.update({"known": number > 0, "history": [self.known.titles[item] for item in example.history]})
        return frame

    def _judge(self, example: Example, items: np.ndarray) -> dict[str, np.ndarray]:
        """The language model's figures for some items: ``score``, and ``rating`` where it was trained on ratings."""
        assert self.model is not None
        assert self.collators is not None
        collators = self.own_users.collators(self.collators, [example])
        slots, device = self.exp.fusion.fuses, device_of(self.exp)
        found: dict[str, np.ndarray] = {}
        for kind in ("rating", "score"):
            name = task_of_items(collators, kind)
            if name is None:
                continue
            task = self.exp.task_set[name]
            prompt = dataclasses.replace(self.known.example(name, task, example.user, 0), example_id=example.example_id)
            found[kind] = scores_of_task(self.model, collators, name, prompt, items, slots=slots, device=device)
            if task.binary:
                found[kind] = 1 / (1 + np.exp(-found[kind]))
        if not found:
            able = " or ".join(name for name, task in BUILT_IN.items() if task.item_score)
            raise DataError(f"{self.run}: recommends by {able}, and was trained on {', '.join(collators.tasks)}")
        return {"score": found["rating"], **found} if "score" not in found else found

    def _why(self, example: Example, items: np.ndarray, ratings: np.ndarray) -> list[str]:
        """The first sentence of the review that the model writes for each item at the rating that it expects."""
        assert self.model is not None
        assert self.collators is not None
        collators = self.own_users.collators(self.collators, [example])
        scale = np.asarray([float(label) for label in collators.encoder.rating_labels])
        stars = scale[np.abs(scale - np.nan_to_num(ratings, nan=scale.max())[:, None]).argmin(axis=1)]
        asked = [
            dataclasses.replace(
                example, task=self.exp.written_mix[0].name, item=int(item), label=float(star), review=""
            )
            for item, star in zip(items, stars, strict=True)
        ]
        cfg = dataclasses.replace(self.exp.evaluate, decoding="greedy")
        found = written_reviews(
            self.model, collators, asked, cfg, slots=self.exp.fusion.fuses, device=device_of(self.exp)
        )
        return [text.splitlines()[0].split(". ")[0] if text else "" for text in found]

    def predict(self, rows: pd.DataFrame | Sequence[dict[str, Any]]) -> pd.DataFrame:
        """Score rows of one's own (columns: `ckf.inference.request_rows`). One row back for each, topk one a candidate.

        ``known`` is false for a user that the data does not know: it is scored as a cold one.

        Raises:
            DataError: a row that cannot be scored: its number, column and value.
        """
        return score_rows(self, pd.DataFrame(rows).reset_index(drop=True))
