"""Figures as SVG text, so that a report is one file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from ckf.report.load_runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ckf.metrics import Reliability

_CURVES = {"train/loss_text": "loss, text stream", "train/loss_cf": "loss, CF stream", "train/weight_text": "w(z)"}


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
    """A figure as SVG text; the same picture is the same text: no date, no random ids."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "ckf"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
