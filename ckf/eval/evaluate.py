"""From a trained run to ``predictions/<split>.parquet`` and ``metrics.json``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ckf.artifacts import write_json
from ckf.cf.leaks import is_unknown, refuse_overlap
from ckf.config.schema import ExperimentConfig
from ckf.data.records import ExampleTable
from ckf.data.seeds import named_keys, named_uniform
from ckf.eval.measure import CF, FLOOR, MODEL, TEXT, known_metrics, metrics_of, with_counts
from ckf.eval.score import answer_log_probabilities, cf_predictions, predictions
from ckf.runs import METRICS, record
from ckf.train.fit import Inputs, load_trained, rating_scale, task_names
from ckf.train.health import gradient_shares, slot_health


def evaluate_run(
    exp: ExperimentConfig, inputs: Inputs, run: Path, *, floor: Path, cf: Path, text_run: Path | None
) -> dict[str, float]:
    """Score every configured split with every source, write predictions and metrics into the run.

    ``floor`` and ``cf`` are CF artifacts (with predictions); ``text_run`` is the finished text-only
    run whose predictions stand beside this model's.
    """
    for artifact in (floor, cf):
        refuse_overlap(artifact, inputs.dataset, exp.evaluate.splits)
    trained = exp.backbone.name != "none"
    loaded = load_trained(exp, inputs, run) if trained else None
    metrics: dict[str, float] = {}
    (run / "predictions").mkdir(exist_ok=True)
    for split in exp.evaluate.splits:
        table = ExampleTable(inputs.examples / "examples.parquet", split, task_names(exp))
        table = keep_some(table, exp.evaluate.max_examples)
        frames = _cf_frames(inputs, table, floor, cf, as_model=not trained)
        if loaded is not None:
            model, collator = loaded
            scores, cut = answer_log_probabilities(
                model, table, collator,
                slots=exp.fusion.fuses, batch_size=exp.evaluate.batch_size, device=_device(exp),
            )  # fmt: skip
            frames.insert(0, predictions(table, scores, collator, MODEL))
            metrics[f"{split}/history_cut"] = cut
        if text_run is not None:
            frames.insert(1, _text_frame(text_run, split, set(table.example_id)))
        everything = with_counts(pd.concat(frames, ignore_index=True), inputs.dataset)
        everything.to_parquet(run / "predictions" / f"{split}.parquet", index=False)
        metrics.update(metrics_of(everything, split, exp))
        metrics.update(known_metrics(inputs.dataset, everything, split))
    if loaded is not None and exp.fusion.fuses:
        val = ExampleTable(inputs.examples / "examples.parquet", "val", task_names(exp))
        metrics.update(slot_health(*loaded, val, _device(exp)))
    metrics.update(gradient_shares(run))
    if exp.evaluate.max_examples is not None:
        metrics["evaluate/max_examples"] = exp.evaluate.max_examples
    if is_unknown(cf):
        metrics["evaluate/cf_training_data_unknown"] = 1
    write_json(run / METRICS, {key: metrics[key] for key in sorted(metrics)})
    record(run, evaluated={split: str(pd.Timestamp.now("UTC")) for split in exp.evaluate.splits})
    return metrics


def keep_some(table: ExampleTable, limit: int | None) -> ExampleTable:
    """At most ``limit`` examples of each task, the same ones whatever the method and the order."""
    if limit is None:
        return table
    draw = named_uniform(0, "evaluation subset", named_keys(table.example_id), 1)[:, 0]
    keep = np.zeros(len(table), dtype=bool)
    for task in range(len(table.tasks)):
        mine = np.flatnonzero(table.task_index == task)
        keep[mine[np.argsort(draw[mine], kind="stable")[:limit]]] = True
    return table.subset(np.flatnonzero(keep))


def _cf_frames(inputs: Inputs, table: ExampleTable, floor: Path, cf: Path, *, as_model: bool) -> list[pd.DataFrame]:
    items = pd.read_parquet(inputs.dataset / "items.parquet", columns=["item", "title"])
    titles = [""] * (int(items["item"].max()) + 1)
    for item, title in zip(items["item"], items["title"], strict=True):
        titles[item] = title
    sources = [(CF, cf), (FLOOR, floor)]
    if as_model:
        sources.insert(0, (MODEL, cf))
    labels = rating_scale(inputs.dataset)
    frames = []
    for source, folder in sources:
        scores = pd.read_parquet(folder / "predictions.parquet")
        if len(scores):  # given vectors may predict nothing, or some tasks only: those rows stay out of the tables
            frame = cf_predictions(table, scores, titles, labels, source)
            frames.append(frame[frame["task"].isin(scores["task"].unique())])
    return frames


def _text_frame(run: Path, split: str, wanted: set[str]) -> pd.DataFrame:
    rows = pd.read_parquet(run / "predictions" / f"{split}.parquet")
    rows = rows[(rows["source"] == MODEL) & rows["example_id"].isin(wanted)]
    return rows.assign(source=TEXT)


def _device(exp: ExperimentConfig) -> torch.device:
    wants_gpu = exp.trainer.accelerator in ("gpu", "auto")
    return torch.device("cuda" if wants_gpu and torch.cuda.is_available() else "cpu")
