"""Run folders made by hand: a config, a card, metrics and a few logged steps."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from ckf.config.compose import compose, to_yaml

METRICS: dict[str, Any] = {
    "test/ctr/auc": 0.61234,
    "test/ctr/uauc": 0.58,
    "test/ctr/n": 1000,
    "test/ctr/uauc_users": 77,
    "test/ctr/auc@warm_seen": 0.65,
    "test/ctr/n@warm_seen": 900,
    "test/rating/rmse": 1.2,
    "test/topk/hr@1[c10]": 0.25,
    "text/test/ctr/auc": 0.55,
    "cf/test/ctr/auc": 0.7,
    "bias/test/ctr/auc": 0.66,
    "oracle/test/ctr/auc_truth": 0.89,
    "oracle/test/ctr/auc_text": 0.75,
    "oracle/test/ctr/auc_counting": 0.68,
    "test/ctr/auc_minus_text": 0.0623,
    "test/ctr/auc_minus_text_low": 0.04,
    "test/ctr/auc_minus_text_high": 0.08,
    "test/ctr/auc_minus_text_p": 0.001,
}


@functools.cache
def config_of(*overrides: str) -> str:
    """The resolved config of these overrides; composing takes a second, so each is composed once."""
    return to_yaml(compose(list(overrides))[0])


def make_run(folder: Path, *overrides: str, data: str = "abc", metrics: dict[str, Any] | None = None) -> Path:
    """A finished run; ``metrics`` change the standard ones, and None takes one away."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_of(*overrides), encoding="utf-8")
    card = {
        "artifacts": {"dataset": {"path": "x", "hash": data}},
        "stages": {"train": 3.5},
        "git": "0123",
        "versions": {"ckf": "0.1.0", "torch": "2.0"},
        "machine": {"cores": 2, "python": "3.11.0"},
    }
    (folder / "run.json").write_text(json.dumps(card), encoding="utf-8")
    values = {key: value for key, value in {**METRICS, **(metrics or {})}.items() if value is not None}
    (folder / "metrics.json").write_text(json.dumps(values), encoding="utf-8")
    lines = [{"step": step, "train/loss_text": 3.0 - step / 10, "train/weight_text": 1.0} for step in range(5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def cells(markdown: str, start: str) -> list[str]:
    """The cells of the first table row that starts with a text."""
    row = next(line for line in markdown.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def tables(markdown: str) -> dict[str, dict[str, dict[str, str]]]:
    """Every table of a report: title -> row -> column -> cell."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    title, header = "", []
    for line in markdown.splitlines():
        if line.startswith("#"):
            title, header = line.lstrip("# "), []
        elif line.startswith("|") and not line.startswith("|-"):
            row = [cell.strip() for cell in line.strip("|").split("|")]
            if not header:
                header = row
                found[title] = {}
            else:
                found[title][row[0]] = dict(zip(header[1:], row[1:], strict=True))
    return found
