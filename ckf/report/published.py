"""Published figures: all of a dataset for a report's own table, and the one that a row of a sweep repeats."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from ckf.config.schema import ExperimentConfig

_METRICS = {"test/ctr/auc": "auc", "test/ctr/uauc": "uauc"}


@dataclass(frozen=True)
class Published:
    """A published row; ``same_as`` are the groups of a run that repeats it (``{method: collm, cf: mf}``)."""

    method: str
    auc: float | None
    uauc: float | None
    source: str
    same_as: dict[str, str] = field(default_factory=dict)


@cache
def published_rows(dataset: str) -> tuple[Published, ...]:
    """What was published on a dataset's split."""
    known = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))
    return tuple(Published(**row) for row in known.get(dataset, []))


def published_figure(config: ExperimentConfig, metric: str) -> Published | None:
    """The published row that a run repeats (with another backbone, as a rule), where it has this metric."""
    if metric not in _METRICS:
        return None
    for row in published_rows(config.dataset.name):
        same = all(getattr(config, group).name == option for group, option in row.same_as.items())
        if row.same_as and same and getattr(row, _METRICS[metric]) is not None:
            return row
    return None


def figure_of(row: Published, metric: str) -> float:
    """A published row's figure for one of its metrics."""
    value: float = getattr(row, _METRICS[metric])
    return value
