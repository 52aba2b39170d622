"""A task's name occurs in its own file only: outside `ckf/tasks` nothing compares with it or lists it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ckf.tasks import BUILT_IN

ROOT = Path(__file__).parents[1] / "ckf"
COLUMNS = {"rating", "review"}
"""Also columns of interactions and placeholders of prompts: as such they may be written, but a task is none of them."""


def violations(code: str) -> list[int]:
    """Lines that name a task: any of its own names, or a column's name where it is compared with a task."""
    return [node.lineno for node in ast.walk(ast.parse(code)) if _names_a_task(node)]


def _names_a_task(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=str(value)):
            return value in BUILT_IN and value not in COLUMNS
        case ast.Compare():
            return bool(_names(node) & COLUMNS) and _of_task(node)
        case ast.Match(subject=subject):
            return ast.unparse(subject).endswith(("task", "task.name"))
    return False


def _names(node: ast.AST) -> set[object]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def _of_task(node: ast.Compare) -> bool:
    sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
    return any(side.endswith(("task", "task.name", "['task']", "tasks", "task_names")) for side in sides)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_outside_tasks_names_a_task(path: Path) -> None:
    if path.is_relative_to(ROOT / "tasks"):
        return
    assert violations(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        'x = task == "ctr"',
        'x = example.task == "rating"',
        'x = task in ("rating", "review")',
        'x = rows["task"] == "review"',
        'x = "rating" in collator.tasks',
        'TASKS = ["topk"]',
        "match task:\n    case 'rating':\n        pass",
    ],
)
def test_what_would_name_a_task_is_found(code: str) -> None:
    assert violations(code)


@pytest.mark.parametrize("code", ['x = rows["rating"]', '"""ctr is a task."""', 'x = "review" in task.placeholders'])
def test_columns_and_prose_are_free(code: str) -> None:
    assert violations(code) == []
