"""Further tables of a run: slices, differences from the baselines, further protocols, reviews."""

from __future__ import annotations

import re

from ckf.metrics import LEAST_USERS, Reliability, are_probabilities, protocol_tag, reliability
from ckf.report.format import SOURCES, lower_is_better, metric_number, task_columns
from ckf.report.load_runs import Run, load_predictions
from ckf.report.table import MISSING, Cell, Interval, Number, Table
from ckf.tasks import Task
from ckf.tasks.base import Sample
from ckf.tasks.measure import with_worst_scores

GROUPS = {
    "users": ("least active quarter of users", "2nd quarter", "3rd quarter", "most active quarter of users"),
    "items": ("least popular quarter of items", "2nd quarter", "3rd quarter", "most popular quarter of items"),
}
_SHORT = {"model": "this model", "text": "text-only", "cf": "CF model", "bias": "bias"}


_MEANINGS = {
    "full": "the whole catalogue in order",
    "slot": "last hidden state against the fused item vectors",
    "gen": "a title written freely",
    "trie": "a title written along the candidates' titles",
}
_NAMES = {"model": "this model", "text": "text-only", "cf": "CF model", "bias": "popularity"}
_RANKED = ("hr@1", "hr@5", "hr@10", "ndcg@10", "mrr")
_TEXT = {
    "bleu1": "BLEU-1", "bleu4": "BLEU-4", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L",
    "distinct1": "distinct-1", "distinct2": "distinct-2", "length": "words", "n": "rows", "unusable": "unusable",
}  # fmt: skip
_WRITERS = {"": "this model", "text/": "text-only", "frequent/": "the item's most frequent sentence",
            "random/": "a training review at random"}  # fmt: skip


def first_task(run: Run) -> tuple[str, str, str]:
    """The task that represents a run: its name, and its headline metric's title and name.

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
    rows: list[list[Cell]] = []
    for kind, names in GROUPS.items():
        for quartile, name in enumerate(names, start=1):
            part = f"@{kind}_q{quartile}"
            values = [run.get(f"{split}/{task}/{metric}{part}", source) for source in SOURCES]
            counts = [run.get(f"{split}/{task}/{count}{part}") for count in ("n", "users")]
            if any(value is not None for value in values):
                label = name if quartile in (1, 4) else f"{name} of {kind}"
                rows.append([label, *map(Number, values), *(metric_number("n", count) for count in counts)])
    header = ["", *_SHORT.values(), "rows", "users with rows"]
    return Table(f"{task} {title} by user activity and item popularity ({split})", header, rows)


def position_table(run: Run, split: str) -> Table:
    """Lists: the headline metric by the place of the target among the candidates; a fair reader has no favourite."""
    candidates = run.config.tasks.candidates
    task = next((entry.task for entry in run.config.scored_mix if entry.task.lists), None)
    if task is None:
        return Table("", [], [])
    title, metric = next(iter(task_columns(task, run.config.ranking).items()))
    parts = [f"@position_{place}" for place in range(candidates)]
    rows: list[list[Cell]] = []
    for source in SOURCES:
        values = [run.get(f"{split}/{task.name}/{metric}{part}", source) for part in parts]
        if any(value is not None for value in values):
            rows.append([_SHORT[source], *(Number(value, form=".3f") for value in values)])
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
        scores = Sample(mine).probabilities
        if len(mine) and are_probabilities(scores):
            curves[_SHORT[source]] = reliability(mine["label"].to_numpy(), scores)
    return curves


def difference_table(run: Run, split: str) -> Table:
    """Each task's headline metric of this model minus each baseline's, paired by example."""
    rows: list[list[Cell]] = []
    for task in (task.name for task in run.config.scored_mix):
        title, metric = next(iter(task_columns(run.config.task_set[task], run.config.ranking).items()))
        for source in SOURCES[1:]:
            key = f"{split}/{task}/{metric}_minus_{source}"
            p, units = run.metrics.get(f"{key}_p_holm"), run.metrics.get(f"{key}_units", LEAST_USERS)
            if key in run.metrics and (p is not None or units < LEAST_USERS):
                span = Interval(run.metrics.get(f"{key}_low"), run.metrics.get(f"{key}_high"), "+.4f")
                value = run.metrics[key]
                figures: list[Cell] = [Number(value, form="+.4f"), span, Number(p, form=".3g")]
                name = f"{task} {title} minus {_SHORT[source]}"
                untested = f"not tested: {units:.0f} users, {LEAST_USERS} needed"
                rows.append([name, *figures, untested if p is None else _direction(metric, value, p)])
    return Table(f"against the baselines, p Holm-corrected ({split})", ["", "difference", "95%", "p", ""], rows)


def _direction(metric: str, difference: float, p: float) -> str:
    if not p < 0.05 or difference == 0:
        return MISSING
    return "better" if (difference > 0) != lower_is_better(metric) else "worse"


def further_tables(run: Run, split: str) -> list[Table]:
    """One table for each further protocol: its name is in every column, and no column holds another's figures."""
    own = protocol_tag(run.config.ranking)
    found = {match[0] for key in run.metrics if (match := re.search(r"\[[^\]]+\]", key)) and "/topk/" in key}
    tables = []
    for tag in sorted(found - {own}):
        names = [*(f"{name}{tag}" for name in _RANKED), f"n{tag}", f"unusable{tag}"]
        rows: list[list[Cell]] = []
        for source in SOURCES:
            values = {name: run.get(f"{split}/topk/{name}", source) for name in names}
            if any(value is not None for value in values.values()):
                cells = [
                    Number(v, form=".0f" if m.startswith(("n[", "unusable[")) else ".4f") for m, v in values.items()
                ]
                rows.append([_NAMES[source], *cells])
        header = ["", *(f"{name.upper()} {tag}" for name in _RANKED), "lists", "unusable"]
        tables.append(Table(f"topk {tag} ({split}): {_meaning(tag)}", header, rows))
    return tables


def _meaning(tag: str) -> str:
    name = tag.strip("[]")
    if name.startswith("rerank"):
        return f"the first {name.removeprefix('rerank')} retrieved, ordered by the language model"
    return _MEANINGS.get(name, "lists of a file")


def review_table(run: Run, split: str) -> Table:
    """Written reviews against the users' own, with the baselines."""
    tags = sorted({key[key.index("[") :] for key in run.metrics if key.startswith(f"{split}/review/bleu4[")})
    rows: list[list[Cell]] = []
    for tag in tags:
        for prefix, name in _WRITERS.items():
            values = {metric: run.metrics.get(f"{prefix}{split}/review/{metric}{tag}") for metric in _TEXT}
            if values["bleu4"] is not None:
                counted = ("n", "unusable", "length")
                cells = [
                    Number(v, form=".1f" if m == "length" else ".0f" if m in counted else ".4f")
                    for m, v in values.items()
                ]
                rows.append([f"{name} {tag}" if prefix in ("", "text/") else name, *cells])
    return Table(f"written reviews ({split})", ["", *_TEXT.values()], rows)
