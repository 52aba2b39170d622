"""Imports between packages go one way: each package may import those to its left in `ORDER`, never to its right."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1] / "ckf"
ORDER = [
    "core", "metrics", "tasks", "config", "runs", "data", "cf", "prompts", "model", "assembly", "tracking", "train",
    "eval", "report", "inference", "pipeline", "sweep", "cli", "__main__",
]  # fmt: skip


def imports_of(nodes: Iterable[ast.AST]) -> set[str]:
    """The packages of ckf that import statements among ``nodes`` name."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ckf."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "ckf":
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ckf."))
    return found - {"__version__"}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_imports_go_one_way():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        package = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if package == "__init__":
            continue
        wrong += [
            f"{path.relative_to(ROOT)} imports ckf.{other}"
            for other in imports_of(ast.walk(parsed(path)))
            if ORDER.index(other) > ORDER.index(package)
        ]
    assert not wrong, wrong


def test_import_ckf_loads_no_package():
    """``ckf.load`` belongs to no layer: it may import inside its body, not at the top of ``ckf/__init__.py``."""
    assert not imports_of(parsed(ROOT / "__init__.py").body)
