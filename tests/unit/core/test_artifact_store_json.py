"""JSON that is written has no NaN and no infinity, which JSON does not know."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import pytest

import ckf
from ckf.cf.vectors.artifact import write_epochs
from ckf.core.artifact_store import json_text, read_json, read_json_lines, write_json
from ckf.tracking.loggers import JsonlLogger

PACKAGE = Path(ckf.__file__).parent
READERS = {"data/readers/python_literals.py", "data/readers/cell_types.py", "data/readers/salvage.py"}
"""They write JSON into tables and scratch files, from JSON or text that they have read."""


def strict(text: str) -> object:
    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_does_not_know_is_null(tmp_path, value):
    nested = {"a": value, "b": [1.5, value, {"c": (value, "NaN")}]}
    assert strict(json_text(nested)) == {"a": None, "b": [1.5, None, {"c": [None, "NaN"]}]}
    write_json(tmp_path / "x.json", nested)
    assert read_json(tmp_path / "x.json")["b"][2] == {"c": [None, "NaN"]}


def test_a_logged_figure_that_is_none_is_left_out(tmp_path):
    write_epochs(tmp_path, [{"epoch": 1, "val_auc": math.nan, "loss": 0.5}])
    assert read_json_lines(tmp_path / "metrics.jsonl") == [{"epoch": 1, "loss": 0.5}]
    (tmp_path / "metrics.jsonl").unlink()
    logger = JsonlLogger(tmp_path)
    logger.log_metrics({"train/loss": 0.25, "val/auc": math.nan}, step=3)
    assert read_json_lines(logger.path) == [{"step": 3, "train/loss": 0.25}]


def test_all_json_is_written_by_the_one_function():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("json.dump", "json.dumps"):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found - READERS == {"core/artifact_store.py"}
