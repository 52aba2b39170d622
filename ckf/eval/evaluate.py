"""Evaluate a trained run: write ``predictions/<split>.parquet`` and ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ckf.assembly import Inputs, load_trained, rating_scale, scored_tasks
from ckf.cf.leakage_check import check_no_overlap, is_unknown
from ckf.cf.models.base import ORDER_ALONE
from ckf.config.schema import ExperimentConfig
from ckf.core.artifact_store import read_json, write_json
from ckf.core.errors import DataError
from ckf.core.rng import hash_ids, hashed_uniform
from ckf.data.example_table import ExampleTable
from ckf.data.titles import read_item_titles
from ckf.eval.candidate_file import read_candidates
from ckf.eval.compute_metrics import BIAS, CF, MODEL, TEXT, further_metrics, metrics_of, oracle_metrics, with_counts
from ckf.eval.extra_protocols import Sources, baseline_lists, further_rankings
from ckf.eval.fusion_diagnostics import equal_vectors, gradient_shares, slot_diagnostics
from ckf.eval.multiprocess import ScoringJob, score_in_processes
from ckf.eval.predictions import cf_predictions, order_alone, predictions, with_raw_ids
from ckf.eval.reviews import baseline_reviews, decoding_tag, review_rows, text_metrics, text_of_run, written_reviews
from ckf.eval.score import answer_log_probabilities
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collators
from ckf.runs.evaluation_log import record_evaluation
from ckf.runs.folder import LISTS_LEFT_OUT, METRICS, update_metadata
from ckf.tasks import Task
from ckf.tasks.base import Vocabulary


@dataclass(frozen=True)
class Baselines:
    """What the model is compared with: CF artifacts with predictions, and the finished text-only run, if any."""

    bias: Path
    cf: Path
    text: Path | None


def evaluate_run(
    exp: ExperimentConfig, inputs: Inputs, run: Path, baselines: Baselines, *, out: Path | None = None
) -> dict[str, float]:
    """Score every configured split with every source; write predictions and metrics to ``out`` (the run itself).

    ``inputs`` may be of another dataset than the run's (transfer).

    Raises:
        DataError: a split without an example of the run's tasks.
    """
    for artifact in (baselines.bias, baselines.cf):
        check_no_overlap(artifact, inputs.dataset, exp.evaluate.splits)
    loaded = load_trained(exp, inputs, run) if exp.backbone.name != "none" else None
    target, metrics = out or run, dict[str, float]()
    (target / "predictions").mkdir(parents=True, exist_ok=True)
    for split in exp.evaluate.splits:
        table, left_out = _examples(exp, inputs, split)
        if left_out:
            metrics[f"{split}/{LISTS_LEFT_OUT}"] = left_out
        record_evaluation(run, "evaluate", split, len(table), to=None if out is None else str(out))
        metrics.update(_evaluate_split(exp, inputs, run, baselines, loaded, table, target))
        if loaded is not None:
            for entry in exp.written_mix:
                metrics.update(_texts(entry.task, exp, inputs, baselines.text, loaded, split, target))
    sampled = exp.evaluate.diagnostics_examples
    if loaded is not None and exp.fusion.fuses and out is None and sampled:
        val = ExampleTable(inputs.examples / "examples.parquet", "val", scored_tasks(exp))
        metrics.update(slot_diagnostics(*loaded, val, device_of(exp), sampled))
    metrics.update(gradient_shares(run))
    if exp.evaluate.max_examples is not None:
        metrics["evaluate/max_examples"] = exp.evaluate.max_examples
    if loaded is not None and exp.fusion.reads_vectors:
        metrics.update(equal_vectors(baselines.cf))
    if is_unknown(baselines.cf):
        metrics["evaluate/cf_training_data_unknown"] = 1
    write_json(target / METRICS, {key: metrics[key] for key in sorted(metrics)})
    if out is None:
        update_metadata(run, evaluated={split: str(pd.Timestamp.now("UTC")) for split in exp.evaluate.splits})
    return metrics


def _examples(exp: ExperimentConfig, inputs: Inputs, split: str) -> tuple[ExampleTable, int]:
    """The examples to score, and how many lists of a file are for none of the split's topk examples."""
    left_out = 0
    table = ExampleTable(inputs.examples / "examples.parquet", split, scored_tasks(exp))
    if exp.evaluate.candidate_file is not None:
        lists = read_candidates(Path(exp.evaluate.candidate_file), inputs.dataset, split)
        table = table.with_candidates(lists)
        left_out = len(lists) - len(table)
    table = subsample(table, exp.evaluate.max_examples)
    if not len(table):
        raise DataError(f"{inputs.examples}: no example of {', '.join(scored_tasks(exp))} in the {split} split")
    return table, left_out


def _evaluate_split(
    exp: ExperimentConfig, inputs: Inputs, run: Path, baselines: Baselines,
    loaded: tuple[Recommender, Collators] | None, table: ExampleTable, target: Path,
) -> dict[str, float]:  # fmt: skip
    split, metrics = table.split, dict[str, float]()
    own_lists = exp.evaluate.candidate_file is not None
    sources = Sources(loaded, inputs.dataset, baselines.cf, device_of(exp))
    if own_lists:  # the artifacts' own predictions are of the prepared lists
        frames = baseline_lists(exp, sources, table)
    else:
        frames = _cf_frames(inputs, table, baselines, exp.task_set, as_model=loaded is None)
    if loaded is not None:
        frame, cut = _model_frame(exp, inputs, run, loaded, table)
        frames.insert(0, frame)
        metrics[f"{split}/history_cut"] = cut
    if baselines.text is not None and not own_lists:
        frames.insert(1, _text_frame(baselines.text, split, set(table.example_id)))
    everything = with_counts(pd.concat(frames, ignore_index=True), inputs.dataset)
    _write(everything, inputs, target / "predictions" / f"{split}.parquet")
    metrics.update(metrics_of(everything, split, exp))
    metrics.update(oracle_metrics(inputs.dataset, everything, split, exp.task_set))
    lists = table.subset(np.flatnonzero([exp.task_set[name].lists for name in table.task]))
    if len(lists):
        for protocol, rows in further_rankings(exp, sources, lists).items():
            rows = with_counts(rows, inputs.dataset)
            _write(rows, inputs, target / "predictions" / f"{split}-{protocol}.parquet")
            metrics.update(further_metrics(rows, split, protocol, exp.task_set))
    return metrics


def _write(rows: pd.DataFrame, inputs: Inputs, path: Path) -> None:
    with_raw_ids(rows, inputs.dataset).to_parquet(path, index=False)


def _texts(
    task: Task, exp: ExperimentConfig, inputs: Inputs, text: Path | None, loaded: tuple[Recommender, Collators],
    split: str, target: Path,
) -> dict[str, float]:  # fmt: skip
    """Generate a text for each example; save and measure it with those of the text-only run and the baselines."""
    path = inputs.examples / "examples.parquet"
    table = subsample(ExampleTable(path, split, [task.name]), exp.evaluate.max_examples)
    if not len(table):
        return {}
    examples = [table[row] for row in range(len(table))]
    mine = written_reviews(*loaded, examples, exp.evaluate, slots=exp.fusion.fuses, device=device_of(exp))
    found = {"model": mine}
    other = text_of_run(text, split, table, task) if text is not None else None
    found |= {"text": other} if other is not None else {}
    rows = review_rows(table, {**found, **baseline_reviews(table, ExampleTable(path, "train", [task.name]))})
    _write(rows, inputs, target / "predictions" / f"{split}-{task.name}.parquet")
    return text_metrics(rows, split, decoding_tag(exp.evaluate), task)


def _model_frame(
    exp: ExperimentConfig, inputs: Inputs, run: Path, loaded: tuple[Recommender, Collators], table: ExampleTable
) -> tuple[pd.DataFrame, int]:
    """The model's predictions, and how many prompts lost history."""
    model, collators = loaded
    if exp.trainer.devices > 1:
        scores, cut = score_in_processes(ScoringJob(exp, inputs, run, table), exp.trainer.devices)
    else:
        scores, cut = answer_log_probabilities(
            model, table, collators,
            slots=exp.fusion.fuses, batch_size=exp.evaluate.batch_size, device=device_of(exp),
        )  # fmt: skip
    mean = exp.evaluate.length_normalisation == "mean"
    return predictions(table, scores, collators, MODEL, mean=mean), cut


def subsample(table: ExampleTable, limit: int | None) -> ExampleTable:
    """At most ``limit`` examples of each task, the same ones for every method and order."""
    if limit is None:
        return table
    draw = hashed_uniform(0, "evaluation subset", hash_ids(table.example_id), 1)[:, 0]
    keep = np.zeros(len(table), dtype=bool)
    for task in range(len(table.tasks)):
        mine = np.flatnonzero(table.task_index == task)
        keep[mine[np.argsort(draw[mine], kind="stable")[:limit]]] = True
    return table.subset(np.flatnonzero(keep))


def _cf_frames(
    inputs: Inputs, table: ExampleTable, baselines: Baselines, tasks: Mapping[str, Task], *, as_model: bool
) -> list[pd.DataFrame]:
    titles = read_item_titles(inputs.dataset)
    sources = [(CF, baselines.cf), (BIAS, baselines.bias)]
    if as_model:
        sources.insert(0, (MODEL, baselines.cf))
    labels = rating_scale(inputs.examples)
    frames = []
    for source, folder in sources:
        scores = pd.read_parquet(folder / "predictions.parquet")
        if len(scores):  # given vectors may predict nothing, or some tasks only: those rows stay out of the tables
            frame = cf_predictions(table, scores, Vocabulary(titles, labels), source, tasks)
            frame = frame[frame["task"].isin(scores["task"].unique())]
            if read_json(folder / "manifest.json").get(ORDER_ALONE):
                frame = order_alone(frame, tasks)
            frames.append(frame)
    return frames


def _text_frame(run: Path, split: str, wanted: set[str]) -> pd.DataFrame:
    rows = pd.read_parquet(run / "predictions" / f"{split}.parquet")
    rows = rows[(rows["source"] == MODEL) & rows["example_id"].isin(wanted)]
    return rows.assign(source=TEXT)


def device_of(exp: ExperimentConfig) -> torch.device:
    """Where a run's model is scored."""
    wants_gpu = exp.trainer.accelerator in ("gpu", "auto")
    return torch.device("cuda" if wants_gpu and torch.cuda.is_available() else "cpu")
