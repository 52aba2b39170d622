"""A sweep file, typed and checked: the question, the grid and its variants as trials, and what its table shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ckf.config.overrides import assign_all
from ckf.core.errors import ConfigError, Problem, first_line

FIGURES = ("dots", "curve", "bars", "slices", "heatmap", "cost")
VARIANT = "variant"
"""What the rows of named variants are called in ``rows`` and ``control``."""


@dataclass
class Variant:
    """A row that one swept key cannot express: a name and the overrides behind it."""

    name: str = ""
    """Name of the row."""
    overrides: list[str] = field(default_factory=list)
    """Overrides of the row, added to those of the sweep."""


@dataclass
class Sweep:
    """A sweep file: the question, the grid, and how the table is made from it."""

    base: str | None = None
    """A file in the same folder. Its keys hold unless they are set here; its overrides come before those here."""
    title: str = ""
    """Title of the table."""
    question: str = ""
    """The question that the table answers."""
    overrides: list[str] = field(default_factory=list)
    """Overrides of all trials."""
    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Swept keys and their values. Every combination is a trial."""
    rows: list[str] = field(default_factory=list)
    """Swept keys that name a row. All but the seed must be in it."""
    metrics: list[str] = field(default_factory=list)
    """Columns of the table."""
    control: dict[str, Any] = field(default_factory=dict)
    """The row that the others are compared with, seed by seed, e.g. {fusion: random} or {variant: full}."""
    variants: list[Variant] = field(default_factory=list)
    """Named lists of overrides, each run at every point of the grid. Their row is called ``variant``."""
    figures: list[str] = field(default_factory=lambda: ["dots"])
    """Figures of the table: ``dots``, ``curve``, ``bars``, ``slices``, ``heatmap``, ``cost``."""

    def problems(self) -> Iterator[Problem]:
        """Check that something is swept, and that the rows are the swept keys but the seed."""
        for name in ("title", "question"):
            if not getattr(self, name).strip():
                yield Problem(name, "required, has no value")
        for name in ("grid", "rows", "metrics"):
            if not getattr(self, name):
                yield Problem(name, "is empty")
        for key, values in self.grid.items():
            if not values:
                yield Problem(f"grid.{key}", "is empty")
        yield from self._variant_problems()
        for name in self.figures:
            if name not in FIGURES:
                yield Problem("figures", f"'{name}' is not allowed; one of {', '.join(FIGURES)}")
        swept = {**({VARIANT: [v.name for v in self.variants]} if self.variants else {}), **self.grid}
        unknown = [key for key in self.rows if key not in swept]
        for key in unknown:
            yield Problem(f"rows[{self.rows.index(key)}]", f"'{key}' is not a key of the grid ({', '.join(swept)})")
        for key in swept:
            if not unknown and self.rows and key not in (*self.rows, "seed"):
                where = "variants" if key == VARIANT else f"grid.{key}"
                yield Problem(where, "is swept but is no row; only seeds are averaged over")
        for key, value in self.control.items():
            if value not in swept.get(key, []):
                yield Problem("control", f"{key}={value} is not in the grid")

    def _variant_problems(self) -> Iterator[Problem]:
        """Names and overrides must tell the variants apart, or two rows would be one."""
        first: dict[str, int] = {}
        for index, variant in enumerate(self.variants):
            if not variant.name.strip():
                yield Problem(f"variants[{index}].name", "required, has no value")
            for what, shown in (("name", variant.name), ("overrides", " ".join(variant.overrides))):
                other = first.setdefault(f"{what} {shown}", index)
                if other != index and variant.name.strip():
                    yield Problem(f"variants[{index}].{what}", f"'{shown}' is already in variants[{other}]")
        if VARIANT in self.grid:
            yield Problem(f"grid.{VARIANT}", "is what the rows of variants are called; use another key")


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: its overrides, the swept ones of them as its name, and the variant it belongs to."""

    name: str
    overrides: tuple[str, ...]
    variant: str = ""


def _override_text(value: Any) -> str:
    """Write a YAML value in the grammar of overrides; strings stay as they are."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_override_text(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_override_text, value)) + "]"
    return str(value)


def file_trials(sweep: Sweep, extra: Sequence[str] = ()) -> list[Trial]:
    """Return the trials of a sweep file; ``extra`` overrides come after its own."""
    axes = [[f"{key}={_override_text(value)}" for value in values] for key, values in sweep.grid.items()]
    if not sweep.variants:
        return grid_points([*sweep.overrides, *extra], axes)
    return [
        Trial(f"{variant.name} {trial.name}", trial.overrides, variant.name)
        for variant in sweep.variants
        for trial in grid_points([*sweep.overrides, *variant.overrides, *extra], axes)
    ]


def grid_points(fixed: Sequence[str], axes: list[list[str]]) -> list[Trial]:
    """Return a trial for each point of a grid; ``fixed`` overrides come first."""
    return [Trial(" ".join(point) or "single run", (*fixed, *point)) for point in itertools.product(*axes)]


def results_path(path: Path) -> Path:
    """Where a sweep file keeps its figures: ``results.csv`` of sweep.yaml, ``results-small.csv`` of small.yaml."""
    return _beside(path, "results", ".csv")


def provenance_path(path: Path) -> Path:
    """Where a sweep file keeps the origin of its figures: ``provenance.csv``, or ``provenance-small.csv``."""
    return _beside(path, "provenance", ".csv")


def rendered_path(path: Path) -> Path:
    """Where the table of a sweep file is written: ``RESULTS.md``, or ``RESULTS-small.md``."""
    return _beside(path, "RESULTS", ".md")


def _beside(path: Path, name: str, ending: str) -> Path:
    return path.with_name((name if path.stem == "sweep" else f"{name}-{path.stem}") + ending)


def sweep_name(path: Path) -> str:
    """What a sweep is called: its folder, and its file's name unless that is sweep.yaml."""
    return path.parent.name if path.stem == "sweep" else f"{path.parent.name}-{path.stem}"


def _read(path: Path) -> dict[str, Any]:
    """The keys of a sweep file, those of its base included."""
    try:
        raw = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), f"cannot be read ({first_line(error)})")]) from None
    if not isinstance(raw, dict):
        raise ConfigError(
            [Problem(str(path), "holds no keys; a sweep has title, question, overrides, grid, rows, metrics")]
        )
    keys = {str(key): value for key, value in raw.items()}
    if keys.get("base") is None:
        return keys
    below = _read(path.with_name(str(keys["base"]))) if keys["base"] != path.name else {}
    both = [below.get("overrides") or [], keys.get("overrides") or []]
    if all(isinstance(lines, list) for lines in both):
        keys["overrides"] = both[0] + both[1]
    return {**below, **keys}


def load_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        ConfigError: it cannot be read, or has unknown keys, wrong types or rows that are not swept.
    """
    raw = _read(path)
    cfg = OmegaConf.structured(Sweep)
    problems = list(assign_all(cfg, raw).values())
    if not problems:
        sweep = OmegaConf.to_object(cfg)
        assert isinstance(sweep, Sweep)
        problems = list(sweep.problems())
        if not problems:
            return sweep
    raise ConfigError([problem.within(str(path)) for problem in problems])
