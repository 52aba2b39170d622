"""Run folders to what a report shows; everything is read from files, nothing is computed again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ckf.artifacts import read_json
from ckf.config.schema import ExperimentConfig
from ckf.errors import ArtifactError
from ckf.runs import METRICS, read_run


@dataclass(frozen=True)
class Run:
    """One finished run: its config, its card and its flat metrics."""

    path: Path
    config: ExperimentConfig
    card: dict[str, Any]
    metrics: dict[str, float]

    def get(self, key: str, source: str = "model") -> float | None:
        """A metric of this model, or of ``text``, ``cf`` or ``floor``; None where it was not measured."""
        return self.metrics.get(key if source == "model" else f"{source}/{key}")

    @property
    def protocol(self) -> tuple[Any, ...]:
        """What must agree for two numbers to stand in one column: data, candidates, subset."""
        return (
            self.config.dataset.name,
            self.card["artifacts"]["dataset"]["hash"],
            self.config.tasks.candidates,
            self.config.evaluate.max_examples,
        )

    @cached_property
    def steps(self) -> list[dict[str, float]]:
        """Logged step metrics, in order."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def load_run(path: Path) -> Run:
    """Read a finished run folder.

    Raises:
        ArtifactError: no run, or one without metrics.
    """
    config, card = read_run(path)
    if not (path / METRICS).is_file():
        raise ArtifactError(f"{path}: not finished (no {METRICS}); the same `ckf` command continues it")
    return Run(path, config, card, read_json(path / METRICS))


def same_protocol(runs: list[Run]) -> None:
    """Refuse to put numbers of different protocols into one column.

    Raises:
        ArtifactError: names two runs that differ and what in.
    """
    names = ("dataset", "dataset artifact", "tasks.candidates", "evaluate.max_examples")
    for run in runs[1:]:
        for name, first, other in zip(names, runs[0].protocol, run.protocol, strict=True):
            if first != other:
                raise ArtifactError(
                    f"{run.path} and {runs[0].path} differ in {name} ({other} and {first}); "
                    "one table cannot hold both, report them apart"
                )
