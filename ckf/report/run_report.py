"""The content of a run's report: titled tables, conclusions, caveats; `build.py` writes it as Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from ckf.metrics import LEAST_USERS
from ckf.report.format import SOURCES, lower_is_better, metric_number, task_columns
from ckf.report.load_runs import UNKNOWN_CAVEAT, UNKNOWN_ORIGIN, Run
from ckf.report.published import published_rows
from ckf.report.run_tables import (
    catalogue_columns,
    difference_table,
    further_tables,
    position_table,
    quartile_table,
    review_table,
)
from ckf.report.table import MISSING, Cell, Interval, Number, Table, number
from ckf.runs.folder import LISTS_LEFT_OUT

SLICES = {
    "@warm_seen": "warm (user and item in train)",
    "@cold_seen": "cold (either not in train)",
    "@warm_3": "warm (both at least 3 times in train)",
    "@cold_3": "cold (either fewer than 3 times)",
}


@dataclass
class Content:
    """A report: title, conclusions, tables, caveats and how it was made."""

    title: str
    conclusions: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    made: list[tuple[str, str]] = field(default_factory=list)


def run_content(run: Run) -> Content:
    """Collect everything that the report of one run shows."""
    cfg = run.config
    content = Content(f"{cfg.method.name} on {cfg.dataset.name}, backbone {cfg.backbone.name}, seed {cfg.seed}")
    for split in run.splits:
        for task in (t.name for t in cfg.scored_mix):
            content.tables.append(_task_table(run, split, task))
        content.tables += [*further_tables(run, split), review_table(run, split)]
        content.tables += [_slice_table(run, split, task) for task in _binary_tasks(run)]
        content.tables += [quartile_table(run, split), position_table(run, split)]
        content.tables.append(difference_table(run, split))
        content.conclusions += _conclusions(run, split)
    content.conclusions += _fusion_conclusions(run)
    content.tables = [table for table in [*content.tables, _fusion_table(run)] if table.rows]
    published = _published(run)
    if published:
        content.tables.append(published)
    content.caveats = _caveats(run)
    content.made = _made(run)
    return content


def source_names(run: Run) -> dict[str, str]:
    """Row titles by source."""
    cfg = run.config
    return {
        "model": f"this model ({cfg.method.name}, fusion {cfg.fusion.name})",
        "text": "text-only (trained apart, same budget)",
        "cf": f"CF model ({cfg.cf.name})",
        "bias": "bias baseline (counting)",
    }


def _task_table(run: Run, split: str, task: str) -> Table:
    columns = {**task_columns(run.config.task_set[task], run.config.ranking), **catalogue_columns(run, split, task)}
    names = source_names(run)
    rows: list[list[Cell]] = []
    spans: list[Cell] = []
    for source in SOURCES:
        values = {metric: run.get(f"{split}/{task}/{metric}", source) for metric in columns.values()}
        if any(value is not None for value in values.values()):
            rows.append([names[source], *(metric_number(*pair) for pair in values.items())])
            spans.append(_interval(run, f"{split}/{task}/{next(iter(columns.values()))}", source))
    if run.config.task_set[task].has_oracle:
        for key, name in (("truth", "planted truth"), ("text", "best reader of text"), ("counting", "best counting")):
            value = run.metrics.get(f"oracle/{split}/{task}/auc_{key}")
            if value is not None:
                rows.append([f"oracle: {name}", Number(value), *[MISSING] * (len(columns) - 1)])
                spans.append(MISSING)
    header = ["", *columns]
    if any(str(span) != MISSING for span in spans):
        header.insert(2, f"{header[1]} 95%")
        rows = [[*row[:2], span, *row[2:]] for row, span in zip(rows, spans, strict=True)]
    return Table(f"{task} ({split})", header, rows)


def _interval(run: Run, key: str, source: str) -> Interval:
    """The bootstrap interval of a metric."""
    return Interval(run.get(f"{key}_low", source), run.get(f"{key}_high", source))


def _binary_tasks(run: Run) -> list[str]:
    """The run's tasks of two answers, which have an AUC."""
    return [task.name for task in run.config.scored_mix if run.config.task_set[task.name].binary]


def _slice_table(run: Run, split: str, task: str) -> Table:
    rows: list[list[Cell]] = []
    for suffix, meaning in SLICES.items():
        values = [run.get(f"{split}/{task}/auc{suffix}", source) for source in SOURCES]
        if any(value is not None for value in values):
            rows.append([meaning, *map(Number, values), metric_number("n", run.get(f"{split}/{task}/n{suffix}"))])
    return Table(
        f"{task} AUC, warm and cold ({split})", ["", "this model", "text-only", "CF model", "bias", "rows"], rows
    )


def _conclusions(run: Run, split: str) -> list[str]:
    names = {"text": "text-only", "cf": f"the CF model ({run.config.cf.name})", "bias": "the bias baseline"}
    where = "" if split == "test" else f" on {split}"
    tasks = [entry.name for entry in run.config.scored_mix]
    without = {task: reason for task in tasks if (reason := _no_conclusion(run, split, task))}
    lines = []
    for task, source in product([task for task in _binary_tasks(run) if task not in without], names):
        key = f"{split}/{task}/auc_minus_{source}"
        if key in run.metrics:
            conclusion = _difference_text(run, key)
            lines.append(f"{run.config.method.name} minus {names[source]} in {task} AUC{where}: {conclusion}")
    if run.config.backbone.name != "none":
        lines += [
            f"This model does not beat counting (the bias baseline) in {title}{where}."
            for title in _lost_to_counting(run, split, [task for task in tasks if task not in without])
        ]
    if run.config.fusion.reads_vectors:
        lines += [
            f"The CF model ({run.config.cf.name}) is below the bias baseline in {title}{where} "
            f"({number(cf, '.4f')} against {number(bias, '.4f')}): counting knows more than its vectors do."
            for title, cf, bias in _cf_below_counting(run, split, [task for task in tasks if task not in without])
        ]
    return lines + [f"{reason}{where}: no interval, no test, no conclusion." for reason in without.values()]


def _no_conclusion(run: Run, split: str, task: str) -> str:
    """Why nothing can be concluded from a task's headline figure; empty where something can."""
    kind = run.config.task_set[task]
    title, metric = next(iter(task_columns(kind, run.config.ranking).items()))
    key = f"{split}/{task}/{metric}"
    units = run.metrics.get(f"{key}_units")
    if units is None or units >= LEAST_USERS:
        return ""
    if key not in run.metrics:
        return f"{task} {title} does not exist where all rows are of one class"
    users = "users (the fewer of those with a Yes and those with a No)" if kind.binary else "users"
    return f"{task} {title} rests on {units:.0f} {users}, and {LEAST_USERS} are needed"


_CHANGES = {"zeroed": "slots zeroed", "shuffled": "vectors shuffled", "swapped": "another user's"}


_USED = 0.01
"""Share of a task's loss that perturbing the slots must add, by the lower end of its interval, to count as use.

Shuffled vectors still tell one item from another, so a map can learn a little of them by heart: the control of
`experiments/ablation` (seed 0, 150 steps) gets about 0.2% in topk that way, where `ckf_plus` gets about 30%.
"""


def _fusion_table(run: Run) -> Table:
    """How far the answers move when the CF knowledge is perturbed, by task, and the AUC that two-answer tasks keep."""
    binary = _binary_tasks(run)
    rows: list[list[Cell]] = []
    for change, meaning in _CHANGES.items():
        keys = [f"diagnostics/{task.name}/change_{change}" for task in run.config.scored_mix]
        if f"diagnostics/change_{change}" in run.metrics:
            kept = [f"diagnostics/{name}/auc_{change}" for name in binary]
            values = [run.metrics.get(key) for key in (*keys, f"diagnostics/change_{change}", *kept)]
            rows.append([meaning, *map(Number, values)])
    if rows:
        gap = [MISSING] * (len(run.config.scored_mix) + 1)
        rows.append(["as it is", *gap, *(Number(run.metrics.get(f"diagnostics/{name}/auc")) for name in binary)])
    header = ["change of the answers", *(task.name for task in run.config.scored_mix), "all"]
    header += [f"{name} AUC" for name in binary]
    return Table(
        f"fusion diagnostics ({metric_number('n', run.metrics.get('diagnostics/n'))} val examples)", header, rows
    )


def _fusion_conclusions(run: Run) -> list[str]:
    """Call out a fused model whose answers are no worse with perturbed slots, and a fusion that was never trained."""
    metrics, fusion = run.metrics, run.config.fusion
    lines = []
    perturbation = "shuffled" if fusion.reads_vectors else "zeroed"
    wanted = ("loss", f"loss_rise_{perturbation}")
    tasks = [t.name for t in run.config.task_mix if all(f"diagnostics/{t.name}/{key}" in metrics for key in wanted)]
    few = {task: metrics.get(f"diagnostics/{task}/users", LEAST_USERS) for task in tasks}
    few = {task: users for task, users in few.items() if users < LEAST_USERS}
    if few:
        counts = ", ".join(f"{task} {users:.0f}" for task, users in few.items())
        lines.append(
            f"Whether the slots are used cannot be said from so few val users ({counts}; {LEAST_USERS} needed)."
        )
    tasks = [task for task in tasks if task not in few]
    least = {task: _USED * metrics[f"diagnostics/{task}/loss"] for task in tasks}
    read = [task for task in tasks if metrics[f"diagnostics/{task}/loss_rise_{perturbation}_low"] > least[task]]
    if tasks and not read:
        rises = [_rise(metrics, f"diagnostics/{task}/loss_rise_{perturbation}") for task in tasks]
        rises_text = ", ".join(f"{task} {rise}" for task, rise in zip(tasks, rises, strict=True))
        what, how = "slots" if fusion.learns else "codes", _CHANGES[perturbation]
        lines.append(f"This model ignores its {what}: with {how} its loss is hardly higher in any task ({rises_text}).")
    elif len(read) < len(tasks):
        unread = ", ".join(task for task in tasks if task not in read)
        lines.append(f"The slots are used in {', '.join(read)}; no use of it can be measured in {unread}.")
    lines += [
        f"All {kind[:-1]} vectors of the CF model are equal: no slot can tell one {kind[:-1]} from another."
        for kind in ("users", "items")
        if metrics.get(f"diagnostics/equal_vectors_{kind}")
    ]
    if fusion.learns and metrics.get("diagnostics/grad_share_fusion", 1.0) < 1e-6:
        lines.append("The fusion got no gradient: it was not trained.")
    return lines


def _rise(metrics: Mapping[str, float], key: str) -> str:
    low, high = (number(metrics[f"{key}_{end}"], "+.4f") for end in ("low", "high"))
    return f"{number(metrics[key], '+.4f')} [{low}, {high}]"


def _difference_text(run: Run, key: str) -> str:
    """A paired difference with its interval, and what follows from it."""
    diff, low, high, p, corrected = (run.metrics.get(f"{key}{end}") for end in ("", "_low", "_high", "_p", "_p_holm"))
    text = number(diff, "+.4f")
    if low is None or high is None:
        return f"{text}; without an interval nothing follows"
    text += f" [{number(low, '+.4f')}, {number(high, '+.4f')}], p = {number(p, '.3g')}"
    if diff == low == high == 0:
        return f"{text}: both order the examples alike"
    conclusion = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    if conclusion != "no clear difference" and corrected is not None and corrected >= 0.05:
        conclusion += f", but not after Holm's correction (p = {number(corrected, '.3g')})"
    return f"{text} (95% paired bootstrap over users): {conclusion}"


def _lost_to_counting(run: Run, split: str, tasks: Sequence[str]) -> list[str]:
    """The first figure of each of these tasks in which the bias baseline is as good or better."""
    lost = []
    for task in tasks:
        title, metric = next(iter(task_columns(run.config.task_set[task], run.config.ranking).items()))
        model, bias = run.get(f"{split}/{task}/{metric}"), run.get(f"{split}/{task}/{metric}", "bias")
        if model is not None and bias is not None:
            ahead = bias - model if lower_is_better(metric) else model - bias
            if not ahead > 0:
                lost.append(f"{task} {title}")
    return lost


def _cf_below_counting(run: Run, split: str, tasks: Sequence[str]) -> list[tuple[str, float, float]]:
    """The first figure of each of these tasks in which the CF model is below counting, with both values."""
    found = []
    for task in tasks:
        title, metric = next(iter(task_columns(run.config.task_set[task], run.config.ranking).items()))
        cf, bias = (run.get(f"{split}/{task}/{metric}", source) for source in ("cf", "bias"))
        if cf is not None and bias is not None and (cf > bias if lower_is_better(metric) else cf < bias):
            found.append((f"{task} {title}", cf, bias))
    return found


def _published(run: Run) -> Table | None:
    rows = published_rows(run.config.dataset.name)
    if not rows or run.get("test/ctr/auc") is None:
        return None
    return Table(
        "published on the same split (not run here)",
        ["method", "AUC", "UAUC", "source"],
        [[row.method, Number(row.auc), Number(row.uauc), row.source] for row in rows],
    )


def _caveats(run: Run) -> list[str]:
    caveats = []
    if run.config.tasks.protocol == "released":
        caveats.append(
            "Protocol released: examples made by the released code's choices (tasks.protocol=released), among them "
            "candidates that may be the user's own positives or repeat a title; not comparable with strict results."
        )
    if run.max_examples is not None:
        caveats.append(f"Scored on a subset: at most {run.max_examples} examples of each task (evaluate.max_examples).")
    caveats += [f"Data: {line}." for line in run.metadata.get("data_warnings", [])]
    caveats += [
        f"Training started from the adapter {path}, which does not record the weights that it was made for."
        for path in run.metadata.get("train", {}).get("adapters_of_unknown_weights", [])
    ]
    caveats += _without_figures(run)
    if run.metrics.get(UNKNOWN_ORIGIN):
        caveats.append(f"{UNKNOWN_CAVEAT} (name it with cf.trained_on=FILE).")
    for key, value in run.metrics.items():
        if key.endswith("/unusable") and value > 0:
            caveats.append(f"{key}: {int(value)} unusable answers, scored as the worst answer.")
        if key.endswith(f"/{LISTS_LEFT_OUT}"):
            caveats.append(f"{key}: {int(value)} lists of the candidate file are for no topk example of the split.")
        if key.endswith("/history_cut") and value > 0:
            caveats.append(f"{key}: {int(value)} prompts lost history to train.max_length_tokens.")
    return caveats


def _without_figures(run: Run) -> list[str]:
    """Which figures the CF model has not, and why."""
    cf, tasks = run.config.cf, [entry.task for entry in run.config.scored_mix]
    lines = []
    if getattr(cf, "scores", None) == "dot" and any(task.binary for task in tasks):
        lines.append(
            f"The CF model ({cf.name}) gives a dot product (cf.scores=dot), an order and no probability: it has AUC "
            "and UAUC, but neither log-loss nor ECE (cf.scores=sigmoid makes it a probability)."
        )
    none = [task.name for task in tasks if task.cf_output is not None and task.cf_output not in cf.outputs]
    if none:
        why = "a dot product is on no scale of ratings" if cf.outputs else "cf.scores=none: it predicts nothing"
        lines.append(f"The CF model ({cf.name}) has no figures for {', '.join(none)}: {why}.")
    for task in (task for task in tasks if task.drawn_negatives):
        lines.append(
            f"{task.name}: every No is an item drawn by {run.config.tasks.negatives} (tasks.negatives), "
            f"{task.drawn_negatives} for each like; these figures do not compare with those of likes against dislikes."
        )
    return lines


def _made(run: Run) -> list[tuple[str, str]]:
    cfg, metadata = run.config, run.metadata
    train = metadata.get("train", {})
    versions = metadata.get("versions", {})
    lines = [
        ("config", ", ".join(_choices(cfg))),
        ("intervals", f"95% paired bootstrap over users, {cfg.evaluate.bootstrap_samples} resamples"),
        (
            "seconds by stage",
            ", ".join(f"{stage} {taken:g}" for stage, taken in metadata.get("stages", {}).items()),
        ),
        ("git commit", str(metadata.get("git") or "unknown")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("artifacts", ", ".join(f"{name} {a['hash']}" for name, a in metadata.get("artifacts", {}).items())),
        ("scorings", _scorings(run)),
    ]
    shares = {part: run.metrics.get(f"diagnostics/grad_share_{part}") for part in ("adapters", "fusion")}
    if all(share is not None for share in shares.values()):
        lines.insert(1, ("gradient norm, share", ", ".join(f"{part} {share:.2f}" for part, share in shares.items())))
    if train:
        parts = [f"{part} {train[f'{part}_parameters']:,}" for part in ("adapter", "fusion", "backbone")]
        lines.insert(1, ("training", f"{train['steps']} steps of {train['examples_per_step']} examples"))
        lines.insert(2, ("parameters", ", ".join(parts) + " (backbone frozen)"))
    return [(name, text) for name, text in lines if text]


def _scorings(run: Run) -> str:
    """How often the run's test split was scored, by whichever verb, and the last time."""
    scorings = [line for line in run.scorings if line.get("split") == "test"]
    if not scorings:
        return ""
    times = "1 time" if len(scorings) == 1 else f"{len(scorings)} times"
    return f"test split scored {times}, last by ckf {scorings[-1]['verb']} at {scorings[-1]['time']}"


def _choices(cfg: object) -> list[str]:
    groups = ("dataset", "split", "cf", "backbone", "lora", "fusion", "curriculum")
    return [f"{group}={getattr(cfg, group).name}" for group in groups]
