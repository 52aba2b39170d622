"""Load run folders for reports; every figure is read from files, none is computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckf.config.schema import ExperimentConfig
from ckf.core.artifact_store import read_json, read_json_lines
from ckf.core.errors import ArtifactError, first_line
from ckf.runs.evaluation_log import scorings
from ckf.runs.folder import METADATA, METRICS, read_run

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("val", "test")
COST = "cost/"
"""Prefix of cost metrics."""
UNKNOWN_ORIGIN = "evaluate/cf_training_data_unknown"
"""The metric that marks a run whose CF vectors came without their training rows."""
UNKNOWN_CAVEAT = "CF training data unknown: leakage cannot be excluded"
PREDICTION_COLUMNS = ("source", "example_id", "task", "user", "item", "label", "score", "answer")


@dataclass(frozen=True)
class Run:
    """One finished run: its config, its metadata and its flat metrics."""

    path: Path
    config: ExperimentConfig
    metadata: dict[str, Any]
    metrics: dict[str, float]

    def get(self, key: str, source: str = "model") -> float | None:
        """A metric of this model, or of ``text``, ``cf`` or ``bias``; None where it was not measured."""
        return self.metrics.get(key if source == "model" else f"{source}/{key}")

    @property
    def splits(self) -> list[str]:
        """The splits that were scored; `ckf evaluate` may have scored others than the config's."""
        found = {key.split("/")[0] for key in self.metrics}
        return [split for split in SPLITS if split in found]

    @property
    def max_examples(self) -> int | None:
        """The limit the metrics were made with, which `ckf evaluate` may have set."""
        limit = self.metrics.get("evaluate/max_examples")
        return None if limit is None else int(limit)

    @property
    def scored_as_configured(self) -> bool:
        """Whether the metrics are those that the run's own config asks for."""
        settings = self.config.evaluate
        return self.max_examples == settings.max_examples and set(self.splits) == set(settings.splits)

    @property
    def protocol(self) -> dict[str, Any]:
        """What must agree before two numbers may share a column: data, candidates, subset."""
        return {
            "dataset": self.config.dataset.name,
            "dataset artifact": self.metadata["artifacts"]["dataset"]["hash"],
            "tasks.candidates": self.config.tasks.candidates,
            "tasks.negatives_seed": self.config.tasks.negatives_seed,
            "tasks.protocol": self.config.tasks.protocol,
            "tasks.negatives": self.config.tasks.negatives,
            "tasks.history_same_timestamp": self.config.tasks.history_same_timestamp,
            "candidate lists": self.metadata["artifacts"].get("examples", {}).get("candidates"),
            "evaluate.max_examples": self.max_examples,
            "evaluate.length_normalisation": self.config.evaluate.length_normalisation,
        }

    @cached_property
    def scorings(self) -> list[dict[str, Any]]:
        """Every scoring of the run's splits, as its evaluation log has them."""
        return scorings(self.path)

    @cached_property
    def steps(self) -> list[dict[str, float]]:
        """Logged step metrics, in order.

        Raises:
            ArtifactError: names a line that is not JSON.
        """
        path = self.path / "metrics.jsonl"
        try:
            return read_json_lines(path)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; without this file the report has no curves") from None


def load_run(path: Path) -> Run:
    """Read a finished run folder.

    Raises:
        ArtifactError: no run, or one without metrics.
    """
    config, metadata = read_run(path)
    if not (path / METRICS).is_file():
        raise ArtifactError(f"{path}: not finished (no {METRICS}); the same `ckf` command continues it")
    if "hash" not in metadata.get("artifacts", {}).get("dataset", {}):
        raise ArtifactError(
            f"{path / METADATA}: names no dataset artifact; the same `ckf` command with overwrite=true writes it again"
        )
    return Run(path, config, metadata, read_json(path / METRICS))


def load_predictions(run: Run, split: str) -> pd.DataFrame:
    """The predictions of one split of a run.

    Raises:
        ArtifactError: the file is missing, is no Parquet or lacks a column.
    """
    import pandas as pd

    path = run.path / "predictions" / f"{split}.parquet"
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; `ckf evaluate run={run.path}` makes it again")
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({first_line(error)})") from None
    missing = [name for name in PREDICTION_COLUMNS if name not in rows]
    if missing:
        raise ArtifactError(f"{path}: lacks the column {missing[0]}; predictions have {', '.join(PREDICTION_COLUMNS)}")
    return rows


def same_protocol(runs: list[Run]) -> None:
    """Refuse to put numbers of different protocols into one column.

    Raises:
        ArtifactError: names two runs that differ and what in.
    """
    for run in runs[1:]:
        for name, first in runs[0].protocol.items():
            other = run.protocol[name]
            if first != other:
                raise ArtifactError(
                    f"{run.path} and {runs[0].path} differ in {name} ({other} and {first}); "
                    "one table cannot hold both, report them apart"
                )


def cost_metrics(metadata: Mapping[str, Any]) -> dict[str, float]:
    """``cost/…`` of a run, from its metadata: seconds by stage, examples/s, peak memory, trained parameters.

    Examples/s is what the fit noted: none where its last session, after a break, had nothing left to train.
    """
    stages, train = metadata.get("stages") or {}, metadata.get("train") or {}
    found = {f"{COST}{stage}_seconds": float(stages[stage]) for stage in ("train", "evaluate") if stage in stages}
    if "examples_per_second" in train:
        found[f"{COST}examples_per_second"] = float(train["examples_per_second"])
    if train:
        parts = ("adapter_parameters", "fusion_parameters")
        found[f"{COST}trainable_parameters"] = float(sum(train.get(part, 0) for part in parts))
    if "peak_memory_gib" in train:
        found[f"{COST}peak_memory_gib"] = float(train["peak_memory_gib"])
    return found
