"""Tables of a run's headline metrics by slice, and against its baselines."""

from __future__ import annotations

from ckf.metrics import Reliability, are_probabilities, protocol_tag, reliability
from ckf.report.format import MISSING, SOURCES, Table, lower_is_better, metric_number, number, task_columns
from ckf.report.load_runs import Run, load_predictions
from ckf.tasks import Task
from ckf.tasks.measure import with_worst_scores

GROUPS = {
    "users": ("least active quarter of users", "2nd quarter", "3rd quarter", "most active quarter of users"),
    "items": ("least popular quarter of items", "2nd quarter", "3rd quarter", "most popular quarter of items"),
}
_SHORT = {"model": "this model", "text": "text-only", "cf": "CF model", "bias": "bias"}


def first_task(run: Run) -> tuple[str, str, str]:
    """The task that stands for a run: its name, and its headline metric's title and name.

    It is the first task with the answers No and Yes, or the first of all.
    """
    tasks = [task.name for task in run.config.scored_mix]
    binary = binary_task(run)
    task = binary.name if binary else tasks[0]
    title, metric = next(iter(task_columns(run.config.task_set[task], run.config.ranking).items()))
    return task, title, metric


def binary_task(run: Run) -> Task | None:
    """The run's first task with the answers No and Yes."""
    return next((entry.task for entry in run.config.scored_mix if entry.task.binary), None)


def catalogue_columns(run: Run, split: str, task: str) -> dict[str, str]:
    """topk: what the first five of the lists are made of, where it was measured."""
    tag = protocol_tag(run.config.ranking)
    columns = {"coverage@5": f"coverage@5{tag}", "popularity bias@5": f"popularity_bias@5{tag}"}
    keys = {title: f"{split}/{task}/{metric}" for title, metric in columns.items()}
    return {t: columns[t] for t, key in keys.items() if any(run.get(key, source) is not None for source in SOURCES)}


def quartile_table(run: Run, split: str) -> Table:
    """The headline metric by quartile of user activity and of item popularity in training."""
    task, title, metric = first_task(run)
    rows = []
    for kind, names in GROUPS.items():
        for quartile, name in enumerate(names, start=1):
            part = f"@{kind}_q{quartile}"
            values = [run.get(f"{split}/{task}/{metric}{part}", source) for source in SOURCES]
            counts = [run.get(f"{split}/{task}/{count}{part}") for count in ("n", "users")]
            if any(value is not None for value in values):
                label = name if quartile in (1, 4) else f"{name} of {kind}"
                rows.append([label, *map(number, values), *(metric_number("n", count) for count in counts)])
    header = ["", *_SHORT.values(), "rows", "users"]
    return Table(f"{task} {title} by user activity and item popularity ({split})", header, rows)


def position_table(run: Run, split: str) -> Table:
    """Lists: the headline metric by the place of the target among the candidates; a fair reader has no favourite."""
    candidates = run.config.tasks.candidates
    task = next((entry.task for entry in run.config.scored_mix if entry.task.lists), None)
    if task is None:
        return Table("", [], [])
    title, metric = next(iter(task_columns(task, run.config.ranking).items()))
    parts = [f"@position_{place}" for place in range(candidates)]
    rows = []
    for source in SOURCES:
        values = [run.get(f"{split}/{task.name}/{metric}{part}", source) for part in parts]
        if any(value is not None for value in values):
            rows.append([_SHORT[source], *(number(value, ".3f") for value in values)])
    if rows:
        rows.append(["lists", *(metric_number("n", run.get(f"{split}/{task.name}/n{part}")) for part in parts)])
    return Table(
        f"{task.name} {title} by the target's position ({split})", ["", *map(str, range(1, candidates + 1))], rows
    )


def calibration(run: Run, split: str) -> dict[str, Reliability]:
    """Reliability curve of each source whose clicks are probabilities; empty where the predictions are not kept."""
    if not (run.path / "predictions" / f"{split}.parquet").is_file():
        return {}
    task, rows = binary_task(run), load_predictions(run, split)
    if task is None:
        return {}
    curves = {}
    for source in SOURCES:
        mine = with_worst_scores(rows[(rows["source"] == source) & (rows["task"] == task.name)], task)
        scores = mine["score"].to_numpy(dtype=float)
        if len(mine) and are_probabilities(scores):
            curves[_SHORT[source]] = reliability(mine["label"].to_numpy(), scores)
    return curves


def difference_table(run: Run, split: str) -> Table:
    """Each task's headline metric of this model minus each baseline's, paired by example."""
    rows = []
    for task in (task.name for task in run.config.scored_mix):
        title, metric = next(iter(task_columns(run.config.task_set[task], run.config.ranking).items()))
        for source in SOURCES[1:]:
            key = f"{split}/{task}/{metric}_minus_{source}"
            if f"{key}_p_holm" in run.metrics:
                ends = (run.metrics.get(f"{key}{end}") for end in ("_low", "_high"))
                low, high = (number(end, "+.4f") for end in ends)
                value, p = run.metrics[key], run.metrics[f"{key}_p_holm"]
                judged = [number(value, "+.4f"), f"[{low}, {high}]", number(p, ".3g"), _judged(metric, value, p)]
                rows.append([f"{task} {title} minus {_SHORT[source]}", *judged])
    return Table(f"against the baselines, p Holm-corrected ({split})", ["", "difference", "95%", "p", ""], rows)


def _judged(metric: str, difference: float, p: float) -> str:
    if not p < 0.05 or difference == 0:
        return MISSING
    return "better" if (difference > 0) != lower_is_better(metric) else "worse"
