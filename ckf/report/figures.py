"""Figures as inline SVG, so that a report is one file."""

from __future__ import annotations

import io

from ckf.report.collect import Run

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
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
