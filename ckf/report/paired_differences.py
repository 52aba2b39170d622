"""Rows of a sweep compared seed by seed: with their text-only twins, and with the control."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t

from ckf.config.sweep_file import Sweep
from ckf.report.table_rows import TableRow, row_name


@dataclass(frozen=True)
class Difference:
    """Mean difference of a row from another line over the seeds of both, with its 95% t-interval."""

    row: str
    other: str
    mean: float
    half: float
    seeds: int

    def __str__(self) -> str:
        ends = f"[{self.mean - self.half:+.4f}, {self.mean + self.half:+.4f}]"
        return f"{self.mean:+.4f} {ends} (95% t-interval, paired over {self.seeds} seeds)"


def control_line(sweep: Sweep, lines: Sequence[TableRow]) -> TableRow | None:
    """The row that the sweep calls its control."""
    name = row_name({key: sweep.control[key] for key in sweep.rows if key in sweep.control})
    return next((line for line in lines if line.is_row and line.name == name), None)


def difference(row: TableRow, other_name: str, metric: str, other: dict[int, float | None]) -> Difference | None:
    """A row minus another, paired by seed; None below two pairs."""
    pairs = [(metrics.get(metric), other.get(seed)) for seed, metrics in row.seeds.items()]
    found = [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]
    if len(found) < 2:
        return None
    half = float(t.ppf(0.975, len(found) - 1)) * statistics.stdev(found) / math.sqrt(len(found))
    return Difference(row.name, other_name, statistics.mean(found), half, len(found))


def from_text(lines: Sequence[TableRow], metric: str) -> list[Difference]:
    """Each row minus its own text-only twin."""
    found = []
    for line in lines:
        if line.is_row:
            twin = {seed: metrics.get(f"text/{metric}") for seed, metrics in line.seeds.items()}
            found.append(difference(line, "text-only", metric, twin))
    return [one for one in found if one is not None]


def from_control(sweep: Sweep, lines: Sequence[TableRow], metric: str) -> list[Difference]:
    """Each row minus the control."""
    control = control_line(sweep, lines)
    if control is None:
        return []
    rival = {seed: metrics.get(metric) for seed, metrics in control.seeds.items()}
    found = [difference(line, control.name, metric, rival) for line in lines if line.is_row and line is not control]
    return [one for one in found if one is not None]
