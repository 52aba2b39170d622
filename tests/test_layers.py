"""Imports go one way: config -> data -> cf -> prompts -> model -> train -> eval -> report -> pipeline -> cli."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "ckf"
ORDER = [
    "errors",
    "metrics",
    "artifacts",
    "config",
    "runs",
    "data",
    "cf",
    "prompts",
    "model",
    "train",
    "eval",
    "sweep",
    "check",
    "report",
    "diff",
    "use",
    "inspect",
    "stages",
    "pipeline",
    "finished",
    "look",
    "tune",
    "usage",
    "verbs",
    "cli",
    "__main__",
]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ckf."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "ckf":
            found.update(alias.name for alias in node.names)
    return found - {"__version__"}


def test_no_arrow_points_back():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if layer == "__init__":
            continue
        for other in imports_of(path):
            if ORDER.index(other) > ORDER.index(layer) and other != layer:
                wrong.append(f"{path.relative_to(ROOT)} imports ckf.{other}")
    assert not wrong, wrong


def test_files_are_short():
    long = {str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert not long, long
