"""Results kept in the folder of a sweep file: ``results.csv`` (the figures of its page) and ``provenance.csv``.

A table outlives its runs: it is rendered from these two files alone. A row of ``provenance.csv`` with a run's
a sweep also takes the fingerprint as the sign that the run is done.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig
from ckf.config.sweep_file import VARIANT, Sweep, Trial, file_trials, provenance_path, results_path
from ckf.core.artifact_store import fingerprint, to_jsonable
from ckf.core.errors import ArtifactError, CkfError, first_line
from ckf.metrics.identity import MODEL, MetricIdentity
from ckf.report.load_runs import COST, UNKNOWN_ORIGIN, Run, cost_metrics, load_run
from ckf.runs.folder import CONFIG, is_finished, result_key

BASELINES = {"text": "text-only", "cf": "CF model", "bias": "bias baseline"}
"""Sources that are measured with each run, as lines of a table."""
CARRIED_OVER = "format1:"
"""Start of the key of a result that was made before the present format of runs: shown, but not done."""
DIRTY = "-dirty"
ANY, AND = "*", "; "
"""In ``results.csv``: every row or seed, and what separates the rows that share a baseline's figure."""
COLUMNS = ("row", "seed", "source", "split", "task", "metric", "slice", "protocol", "value", "low", "high", "n")
Figure = tuple[float, float | None, float | None, float | None]
"""A value, the ends of its interval and its number of rows or lists."""


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from: a line of ``provenance.csv``. ``seconds`` are those of all stages."""

    key: str
    row: str
    seed: int
    command: str
    commit: str
    data: str
    versions: str
    machine: str
    seconds: float | None

    @property
    def carried_over(self) -> bool:
        """Whether it was made before the present format of runs."""
        return self.key.startswith(CARRIED_OVER)


@dataclass(frozen=True)
class Result:
    """A row and a seed of a table: its flat metrics as kept, where they come from, and the run if it is here."""

    key: str
    row: dict[str, Any]
    seed: int
    metrics: dict[str, float]
    provenance: Provenance
    config: ExperimentConfig
    run: Run | None = None


def row_name(row: Mapping[str, Any]) -> str:
    """How a row is called: its swept values, or its variant."""
    return ", ".join(str(value) if key == VARIANT else f"{key}={value}" for key, value in row.items())


def finished_keys(path: Path) -> set[str]:
    """Fingerprints of the runs whose results are kept with a sweep file."""
    return {kept.key for kept in _read_provenance(path) if not kept.carried_over}


def gather_results(path: Path, sweep: Sweep, outputs: Path) -> tuple[list[Result], list[str]]:
    """Keep the results of a sweep file's finished runs with it; return every kept result and the trials without one.

    A result that is kept counts even without its run folder. Another process may do the same at the same time.

    Raises:
        ArtifactError: nothing is finished yet, a run is of a dirty tree, or two results are of different data.
    """
    trials = file_trials(sweep)
    configs = [compose(list(trial.overrides))[0] for trial in trials]
    finished = _finished_runs(outputs)
    shown = shown_metrics(sweep)
    with FileLock(path.with_name(f".{results_path(path).name}.lock")):
        kept = {(one.row, one.seed): (one, metrics) for one, metrics in read_results(path)}
        results: list[Result] = []
        places: list[tuple[str, int]] = []
        for trial, config in zip(trials, configs, strict=True):
            key = result_key(config)
            row: dict[str, Any] = {
                name: trial.variant if name == VARIANT else _value(config, name) for name in sweep.rows
            }
            places.append((row_name(row), config.seed))
            before, metrics = kept.get(places[-1], (None, {}))
            run = finished.get(key)
            if run is not None:
                figures = figures_of({**run.metrics, **cost_metrics(run.metadata)}, shown)
                results.append(
                    Result(key, row, config.seed, _flat(figures), _provenance(key, row, trial, run), config, run)
                )
            elif before is not None and (before.key == key or before.carried_over):
                results.append(Result(before.key, row, config.seed, metrics, before, config))
        results = _one_version_of_data(results)
        if not results:
            raise ArtifactError(f"{path.parent}: no run of its sweep is finished; `ckf sweep {path}` makes them")
        refuse_dirty([result.provenance for result in results])
        write_results(path, [(result.provenance, result.metrics) for result in results], shown)
    found = {(result.provenance.row, result.seed) for result in results}
    return results, [trial.name for trial, place in zip(trials, places, strict=True) if place not in found]


def refuse_dirty(kept: Sequence[Provenance]) -> None:
    """Refuse results that no commit can make again.

    Raises:
        ArtifactError: names the first of them.
    """
    dirty = [one for one in kept if one.commit.endswith(DIRTY)]
    if dirty:
        raise ArtifactError(
            f"{len(dirty)} of {len(kept)} results were made by a tree with uncommitted changes "
            f"(the first: {dirty[0].row}, seed {dirty[0].seed}, commit {dirty[0].commit}); "
            "commit them, and run these again with overwrite=true"
        )


def shown_metrics(sweep: Sweep) -> list[MetricIdentity]:
    """What the page of a sweep shows: its metrics of the model and of the baselines, and what its figures need."""
    wanted = [MetricIdentity.parse(metric).estimate for metric in sweep.metrics]
    if "cost" in sweep.figures:
        wanted += [MetricIdentity.parse(f"{COST}{name}") for name in ("train_seconds", "trainable_parameters")]
    sources = (MODEL, *BASELINES)
    found = [one.of(source) for one in wanted for source in (sources if one.source == MODEL else (one.source,))]
    return list(dict.fromkeys([*found, MetricIdentity.parse(UNKNOWN_ORIGIN)]))


def figures_of(metrics: Mapping[str, float], shown: Iterable[MetricIdentity]) -> dict[MetricIdentity, Figure]:
    """The figures of a run that a page shows, rounded as they are kept."""
    found: dict[MetricIdentity, Figure] = {}
    for one in shown:
        value = metrics.get(str(one))
        if value is not None:
            count = MetricIdentity(one.source, one.split, one.task, "n", one.slice)
            rest = [metrics.get(str(part)) for part in (one.end("low"), one.end("high"), count)]
            found[one] = (_rounded(value), *(None if part is None else _rounded(part) for part in rest))  # type: ignore[assignment]
    return found


def read_results(path: Path) -> list[tuple[Provenance, dict[str, float]]]:
    """The results kept with a sweep file, in its order: where each result comes from, and its flat metrics.

    Raises:
        ArtifactError: names a line that is not of this form.
    """
    kept = _read_provenance(path)
    figures: dict[tuple[str, int], dict[MetricIdentity, Figure]] = {(one.row, one.seed): {} for one in kept}
    for number, line in enumerate(_read_csv(results_path(path), COLUMNS), start=2):
        try:
            name, _, difference = line["metric"].partition("_minus_")
            one = MetricIdentity(
                line["source"], line["split"], line["task"], name, line["slice"], line["protocol"],
                f"minus_{difference}" if difference else "",
            )  # fmt: skip
            low, high, count = (float(line[key]) if line[key] else None for key in ("low", "high", "n"))
            figure = (float(line["value"]), low, high, count)
            for row, seed in figures:
                if (line["row"] == ANY or row in line["row"].split(AND)) and line["seed"] in (ANY, str(seed)):
                    figures[row, seed][one] = figure
        except ValueError as error:
            raise ArtifactError(f"{results_path(path)}: line {number} cannot be read ({error})") from None
    return [(one, _flat(figures[one.row, one.seed])) for one in kept]


def write_results(
    path: Path, results: Sequence[tuple[Provenance, Mapping[str, float]]], shown: Sequence[MetricIdentity]
) -> None:
    """Write both files of a sweep file, each in one step; lines keep the order of the sweep.

    A baseline's figure is written once for all rows that share it (``*``: every row, every seed).
    """
    figures = [figures_of(metrics, shown) for _, metrics in results]
    places = [(kept.row, kept.seed) for kept, _ in results]
    if any(AND in row for row, _ in places):
        raise ArtifactError(f"{path}: a row's name may not hold '{AND}', which separates rows in results.csv")
    baselines = [one for one in shown if one.source in BASELINES]
    shared = [line for one in baselines for line in _shared_lines(one, places, figures)]
    own = [
        _line(row, seed, one, figure)
        for (row, seed), found in zip(places, figures, strict=True)
        for one, figure in found.items()
        if one.source not in BASELINES
    ]
    _write_csv(results_path(path), COLUMNS, [*shared, *own])
    _write_csv(provenance_path(path), [field.name for field in fields(Provenance)], [astuple(k) for k, _ in results])


def _shared_lines(
    one: MetricIdentity, places: Sequence[tuple[str, int]], figures: Sequence[Mapping[MetricIdentity, Figure]]
) -> list[list[Any]]:
    """A line for each different figure of a baseline, with all the rows that have it."""
    rows_of = {seed: [row for row, other in places if other == seed] for _, seed in places}
    groups: dict[tuple[Figure, tuple[str, ...]], list[int]] = {}
    for seed in rows_of:
        members: dict[Figure, list[str]] = {}
        for (row, other), found in zip(places, figures, strict=True):
            if other == seed and one in found:
                members.setdefault(found[one], []).append(row)
        for figure, names in members.items():
            groups.setdefault((figure, tuple(names)), []).append(seed)
    lines = []
    for (figure, rows), seeds in groups.items():
        name = ANY if len(rows) > 1 and all(list(rows) == rows_of[seed] for seed in seeds) else AND.join(rows)
        shown: Sequence[object] = (ANY,) if len(seeds) > 1 and len(seeds) == len(rows_of) else seeds
        lines += [_line(name, seed, one, figure) for seed in shown]
    return lines


def _line(row: str, seed: object, one: MetricIdentity, figure: Figure) -> list[Any]:
    name = one.metric + (f"_{one.statistic}" if one.statistic else "")
    return [row, seed, one.source, one.split, one.task, name, one.slice, one.protocol, *map(_text, figure)]


def _flat(figures: Mapping[MetricIdentity, Figure]) -> dict[str, float]:
    """Figures as the flat metrics of a run."""
    found: dict[str, float] = {}
    for one, (value, low, high, count) in figures.items():
        found[str(one)] = value
        ends = {one.end("low"): low, one.end("high"): high}
        ends[MetricIdentity(one.source, one.split, one.task, "n", one.slice)] = count
        found.update({str(part): figure for part, figure in ends.items() if figure is not None})
    return found


def _rounded(value: float) -> float:
    """Six significant digits; whole numbers as they are."""
    return float(value) if float(value).is_integer() else float(f"{value:.6g}")


def _text(value: float | None) -> str:
    return "" if value is None else str(int(value)) if value.is_integer() else repr(value)


def _read_provenance(path: Path) -> list[Provenance]:
    place, names = provenance_path(path), [field.name for field in fields(Provenance)]
    kept = []
    for number, line in enumerate(_read_csv(place, names), start=2):
        try:
            seconds = float(line["seconds"]) if line["seconds"] else None
            kept.append(Provenance(**{**line, "seed": int(line["seed"]), "seconds": seconds}))  # type: ignore[arg-type]
        except ValueError as error:
            raise ArtifactError(f"{place}: line {number} cannot be read ({error})") from None
    return kept


def _read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The lines of a file; none where there is no such file.

    Raises:
        ArtifactError: other columns.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
    if list(reader.fieldnames or ()) != list(columns) or any(None in line or None in line.values() for line in lines):
        raise ArtifactError(f"{path}: its columns must be {', '.join(columns)}, as `ckf report` writes them")
    return lines


def _write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Write a file in one step; one that has the same content already is left alone."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)
    os.replace(part, path)


def _finished_runs(outputs: Path) -> dict[str, Run]:
    """Finished runs by their fingerprint; those that cannot count are named on stderr."""
    runs = {}
    for path in sorted(config.parent for config in outputs.glob(f"*/{CONFIG}")):
        if not is_finished(path):
            continue
        try:
            run = load_run(path)
        except CkfError as error:
            print(f"left out: {path}: {first_line(error)}", file=sys.stderr)
            continue
        if run.scored_as_configured:
            runs[result_key(run.config)] = run
        else:
            print(f"left out: {path}: scored with other settings than its config's (`ckf evaluate`)", file=sys.stderr)
    return runs


def data_name(config: ExperimentConfig) -> str:
    """What the data of a result is made from; rows may differ in it only where the sweep varies it."""
    dataset = {key: value for key, value in to_jsonable(config.dataset).items() if key not in ("root", "memory_mb")}
    return fingerprint(dataset, config.split)


def _one_version_of_data(results: list[Result]) -> list[Result]:
    """Results of one version of each data; what was carried over gives way to new runs on another version.

    Raises:
        ArtifactError: names two new results that differ.
    """
    first: dict[str, Result] = {}
    for result in sorted(results, key=lambda one: one.provenance.carried_over):
        one = first.setdefault(data_name(result.config), result)
        if result.provenance.data != one.provenance.data and not result.provenance.carried_over:
            raise ArtifactError(
                f"results {one.key} and {result.key} differ in dataset artifact ({one.provenance.data} and "
                f"{result.provenance.data}); one table cannot hold both, remove the old"
            )
    agreeing = [one for one in results if one.provenance.data == first[data_name(one.config)].provenance.data]
    if len(agreeing) < len(results):
        left = f"{len(results) - len(agreeing)} results carried over from an older format"
        print(f"left out: {left}: new runs are on another version of the data", file=sys.stderr)
    return agreeing


def _provenance(key: str, row: Mapping[str, Any], trial: Trial, run: Run) -> Provenance:
    """Where a run's result comes from.

    The row is the trial's: its run may have been another method's text-only baseline, of the same config but the label.
    """
    metadata = run.metadata
    return Provenance(
        key=key,
        row=row_name(row),
        seed=run.config.seed,
        command="ckf " + " ".join(trial.overrides),
        commit=str(metadata.get("git") or "unknown"),
        data=metadata["artifacts"]["dataset"]["hash"],
        versions=versions_text(metadata.get("versions") or {}),
        machine=machine_text(metadata.get("machine") or {}),
        seconds=round(sum((metadata.get("stages") or {}).values()), 1) if metadata.get("stages") else None,
    )


def versions_text(versions: Mapping[str, Any]) -> str:
    """Versions of the packages that can move a figure, on one line; the run's own folder has all of them."""
    named = ("torch", "transformers", "peft")
    return "; ".join(
        f"{name} {versions[name]}" for name in named if versions.get(name, "not installed") != "not installed"
    )


def machine_text(machine: Mapping[str, Any]) -> str:
    """Cores and Python of a machine, on one line; empty where nothing was recorded."""
    return f"{machine['cores']} cores, Python {machine['python']}" if machine else ""


def _value(config: ExperimentConfig, key: str) -> Any:
    """Value of a swept key; a group is called by its option's name."""
    node: Any = config
    for part in key.split("."):
        node = getattr(node, part)
    return getattr(node, "name", node) if not isinstance(to_jsonable(node), list) else to_jsonable(node)
