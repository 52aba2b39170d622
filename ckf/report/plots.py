"""Figures as SVG text: those of a sweep's table, one function for each kind in ``figures``, and those of a run."""

from __future__ import annotations

import io
import re
import statistics
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ckf.config.sweep_file import FIGURES, Sweep
from ckf.report.format import lower_is_better
from ckf.report.load_runs import COST, Run
from ckf.report.significance import control_line, from_control, from_text
from ckf.report.table_rows import BIAS, TableRow, heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckf.metrics import Reliability

BLUE, DARK, GREY, RED = "#3465a4", "#1c2330", "#888888", "#b0413e"
_CURVES = {"train/loss_text": "loss, text stream", "train/loss_cf": "loss, CF stream", "train/weight_text": "w(z)"}
Draw = Callable[[Sweep, Sequence[TableRow]], "Figure | None"]


def draw(kind: str, sweep: Sweep, lines: Sequence[TableRow]) -> Figure | None:
    """The figure of a kind; None where the results have nothing to show in it yet."""
    drawn = dict(zip(FIGURES, (_dots, _curve, _bars, _slices, _heatmap, _cost), strict=True))
    return drawn[kind](sweep, lines)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # without pyplot: no window system, no state

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=9)
    return figure, axes


def _dots(sweep: Sweep, lines: Sequence[TableRow]) -> Figure | None:
    """A line for each row: a dot for each seed, a bar at their mean."""
    metric = sweep.metrics[0]
    shown = [(line.name, line.values(metric), line.is_row) for line in lines if line.values(metric)]
    if not shown:
        return None
    figure, axes = _figure(6.4, 0.8 + 0.34 * len(shown))
    places = range(len(shown), 0, -1)
    for place, (_, values, is_row) in zip(places, shown, strict=True):
        axes.plot(values, [place] * len(values), "o", markersize=4, alpha=0.5, color=BLUE if is_row else GREY)
        axes.plot([statistics.mean(values)], [place], "|", markersize=14, markeredgewidth=2, color=DARK)
    axes.set_yticks(list(places), [name for name, *_ in shown])
    axes.set_ylim(0.4, len(shown) + 0.6)
    axes.set_xlabel(f"{heading(metric)} (dots: seeds, bar: mean; grey: baselines)", fontsize=9)
    axes.grid(axis="x", linewidth=0.4)
    return figure


def _curve(sweep: Sweep, lines: Sequence[TableRow]) -> Figure | None:
    """The first metric over the last numeric row key; a curve for each combination of the others."""
    key = next((key for key in reversed(sweep.rows) if _is_numeric(key, lines)), None)
    metric = sweep.metrics[0]
    if key is None:
        return None
    curves: dict[str, list[tuple[float, list[float]]]] = {}
    for line in lines:
        if line.is_row and line.values(metric):
            rest = ", ".join(f"{k}={v}" for k, v in line.row.items() if k != key)
            curves.setdefault(rest, []).append((float(line.row[key]), line.values(metric)))
    figure, axes = _figure(5.6, 3.8)
    for name, points in sorted(curves.items()):
        points.sort()
        means = [statistics.mean(values) for _, values in points]
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
        axes.errorbar([x for x, _ in points], means, yerr=spread, marker="o", capsize=3, linewidth=1.4, label=name)
    for line in lines:
        if not line.is_row and not line.row and line.values(metric):
            style = ":" if line.name == BIAS else "--"
            axes.axhline(
                statistics.mean(line.values(metric)), linestyle=style, color=GREY, linewidth=1, label=line.name
            )
    values = sorted({x for points in curves.values() for x, _ in points})
    if len(values) > 1 and values[0] > 0 and values[-1] / values[0] >= 4:
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xlabel(key, fontsize=9)
    axes.set_ylabel(f"{heading(metric)}, mean ± sd", fontsize=9)
    axes.grid(linewidth=0.4)
    if axes.get_legend_handles_labels()[1] != [""]:
        axes.legend(fontsize=8)
    return figure


def _is_numeric(key: str, lines: Sequence[TableRow]) -> bool:
    values = [line.row[key] for line in lines if line.is_row and key in line.row]
    return bool(values) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _bars(sweep: Sweep, lines: Sequence[TableRow]) -> Figure | None:
    """Each row minus the control (or its text-only baseline), with the 95% interval over seeds."""
    metric = sweep.metrics[0]
    pairs = from_control(sweep, lines, metric) or from_text(lines, metric)
    if not pairs:
        return None
    figure, axes = _figure(7.2, 0.9 + 0.32 * len(pairs))
    places = range(len(pairs), 0, -1)
    for place, pair in zip(places, pairs, strict=True):
        worse = (pair.mean > 0) == lower_is_better(metric)
        axes.barh(place, pair.mean, height=0.6, color=RED if worse else BLUE, alpha=0.75)
        axes.errorbar([pair.mean], [place], xerr=[pair.half], color=DARK, capsize=3, linewidth=1.2)
    axes.axvline(0, color=DARK, linewidth=0.8)
    axes.set_yticks(list(places), [pair.row for pair in pairs])
    few = min(pair.seeds for pair in pairs)
    axes.set_xlabel(f"{heading(metric)} minus {pairs[0].other} (95% t-interval, {few} seeds or more)", fontsize=9)
    axes.grid(axis="x", linewidth=0.4)
    return figure


def _slices(sweep: Sweep, lines: Sequence[TableRow]) -> Figure | None:
    """The metrics with a slice (``@``) side by side; a group of bars for each slice, a bar for each line."""
    metrics = [metric for metric in sweep.metrics if "@" in metric and "ndcg@" not in metric and "hr@" not in metric]
    shown = [line for line in lines if any(line.values(metric) for metric in metrics)]
    if not metrics or not shown:
        return None
    figure, axes = _figure(max(6.0, 1.3 * len(metrics) + 2), 3.8)
    width = 0.8 / len(shown)
    for number, line in enumerate(shown):
        points = [(place, line.values(metric)) for place, metric in enumerate(metrics) if line.values(metric)]
        at = [place + width * (number - (len(shown) - 1) / 2) for place, _ in points]
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
        means = [statistics.mean(values) for _, values in points]
        axes.bar(at, means, width, yerr=spread, label=line.name, error_kw={"linewidth": 0.8}, alpha=0.85)
    axes.set_xticks(range(len(metrics)), [metric.split("@")[1].replace("_", " ") for metric in metrics])
    low = min(statistics.mean(line.values(m)) for line in shown for m in metrics if line.values(m))
    axes.set_ylim(bottom=max(0.0, low - 0.05))
    axes.set_ylabel(f"{heading(metrics[0].split('@')[0])}, mean ± sd", fontsize=9)
    axes.legend(fontsize=7, ncols=2)
    return figure


def _heatmap(sweep: Sweep, lines: Sequence[TableRow]) -> Figure | None:
    """Rows against metrics: the difference from the control, signed so that blue is better."""
    control = control_line(sweep, lines)
    rows = [line for line in lines if line.is_row and line is not control]
    if control is None or not rows:
        return None
    signed: list[list[float]] = []
    for line in rows:
        signed.append([_signed(line, control, metric) for metric in sweep.metrics])
    largest = [max((abs(row[c]) for row in signed if row[c] == row[c]), default=0.0) for c in range(len(sweep.metrics))]
    shades = [[value / (top or 1.0) for value, top in zip(row, largest, strict=True)] for row in signed]
    figure, axes = _figure(1.5 * len(sweep.metrics) + 2.6, 0.42 * len(rows) + 1.2)
    axes.imshow(shades, cmap="RdBu", vmin=-1.4, vmax=1.4, aspect="auto")
    for r, row in enumerate(signed):
        for c, value in enumerate(row):
            axes.text(c, r, "–" if value != value else f"{value:+.4f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(sweep.metrics)), [heading(metric) for metric in sweep.metrics], fontsize=8)
    axes.set_yticks(range(len(rows)), [line.name for line in rows])
    axes.set_xlabel(f"difference from '{control.name}', + is better; shades are per column", fontsize=8)
    return figure


def _signed(line: TableRow, control: TableRow, metric: str) -> float:
    if not (line.values(metric) and control.values(metric)):
        return float("nan")
    ahead = statistics.mean(line.values(metric)) - statistics.mean(control.values(metric))
    return -ahead if lower_is_better(metric) else ahead


def _cost(sweep: Sweep, lines: Sequence[TableRow]) -> Figure | None:
    """Quality over cost: training seconds, or trained parameters where no seconds were noted."""
    quality = next(metric for metric in sweep.metrics if not metric.startswith(COST))
    rows = [line for line in lines if line.is_row and line.values(quality)]
    cost = next((m for m in (f"{COST}train_seconds", f"{COST}trainable_parameters") if _all_have(rows, m)), None)
    if not rows or cost is None:
        return None
    figure, axes = _figure(5.6, 3.8)
    for line in rows:
        x, y = (statistics.mean(line.values(metric)) for metric in (cost, quality))
        axes.plot([x], [y], "o", color=BLUE)
        axes.annotate(line.name, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
    for line in lines:
        if not line.is_row and not line.row and line.values(quality):
            axes.axhline(statistics.mean(line.values(quality)), linestyle=":", color=GREY, linewidth=1)
            end: Any = (1.0, statistics.mean(line.values(quality)))
            axes.annotate(line.name, end, xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7)
    axes.set_xlabel(heading(cost).replace("_", " "), fontsize=9)
    axes.set_ylabel(heading(quality), fontsize=9)
    axes.margins(0.15)
    axes.grid(linewidth=0.4)
    return figure


def _all_have(lines: Sequence[TableRow], metric: str) -> bool:
    return bool(lines) and all(line.values(metric) for line in lines)


def training_curves(runs: list[Run]) -> str:
    """Step curves of the streams' losses and of the curriculum's weight; empty when nothing was trained."""
    names = [name for name in _CURVES if any(name in step for run in runs for step in run.steps)]
    if not names:
        return ""
    from matplotlib.figure import Figure  # without pyplot: no window system, no state

    figure = Figure(figsize=(4.2 * len(names), 3), layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), place)
        for run in runs:
            points = [(step["step"], step[name]) for step in run.steps if name in step]
            if points:
                axes.plot(*zip(*points, strict=True), linewidth=1.2, label=run.path.name)
        axes.set_title(_CURVES[name], fontsize=10)
        axes.set_xlabel("step", fontsize=9)
        axes.tick_params(labelsize=8)
        if len(runs) > 1:
            axes.legend(fontsize=6)
    return svg(figure)


def reliability_curves(curves: dict[str, Reliability], title: str) -> str:
    """Predicted against observed share of positives, a line for each source; dots grow with their rows."""
    if not curves:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], linewidth=0.8, linestyle=":", color="#888888")
    for name, curve in curves.items():
        sizes = 8 + 80 * curve.count / curve.count.sum()
        (line,) = axes.plot(curve.predicted, curve.observed, linewidth=1.2, label=name)
        axes.scatter(curve.predicted, curve.observed, s=sizes, color=line.get_color(), alpha=0.6)
    axes.set_xlabel(f"predicted probability ({title})", fontsize=9)
    axes.set_ylabel("share of positives", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8)
    return svg(figure)


def svg(figure: Figure) -> str:
    """A figure as SVG text; the same picture is the same text: no date, no random ids.

    Letters are text, lengths have one decimal and groups without a meaning go: a figure in a repository is small.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "ckf", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", lambda tag: _short_tag(tag[0]), text)
    while (shorter := re.sub(r"<g>((?:(?!</?g\b).)*)</g>", r"\1", text, flags=re.DOTALL)) != text:
        text = shorter
    return re.sub(r"\s*\n\s*", "\n", _with_classes(text))


def _with_classes(text: str) -> str:
    """Styles that are repeated element by element, as classes; named by content, since a page has many figures."""
    styles = dict.fromkeys(re.findall(r'style="([^"]*)"', text))
    names = {style: f"s{zlib.crc32(style.encode()):08x}"[:6] for style in styles}
    text = re.sub(r'style="([^"]*)"', lambda found: f'class="{names[found[1]]}"', text)
    rules = ["text{font-family:'DejaVu Sans',Verdana,sans-serif}", *(f".{n}{{{style}}}" for style, n in names.items())]
    return text.replace("*{", " ".join(rules) + " *{", 1)


def _short_tag(tag: str) -> str:
    """A tag with lengths of one decimal, without what has no effect."""
    tag = re.sub(r'^<g id="[^"]*"', "<g", tag)
    tag = re.sub(r"font-family: [^;]*; ", "", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"| version="[^"]*"', "", tag)
    tag = re.sub(r"-?\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), tag)
    tag = re.sub(r"([:;]) ", r"\1", tag).replace(";stroke-linecap:square", "")
    return re.sub(r"\s+", " ", tag)
