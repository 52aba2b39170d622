"""No module of ckf imports another that imports it in turn, directly or through others, at the top or in a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def import_circles(root: Path, package: str) -> list[list[str]]:
    """Groups of modules that reach each other through imports. Imports for type checkers alone do not count."""
    paths = {_module_name(path, root): path for path in sorted((root / package).rglob("*.py"))}
    graph = {name: set(_imports(name, path, paths)) - {name} for name, path in paths.items()}
    reached = {name: _reachable(name, graph) for name in graph}
    circles = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in graph}
    return [list(circle) for circle in sorted(circles) if len(circle) > 1]


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in _runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (module for module in below if module in known)
            if node.module in known and any(module not in known for module in below):
                yield node.module


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _runtime_nodes(child)


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        for name in graph[waiting.pop()] - found:
            found.add(name)
            waiting.append(name)
    return found


def test_there_is_no_import_circle() -> None:
    assert import_circles(ROOT, "ckf") == []


def test_a_circle_is_found_wherever_its_imports_are(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "a.py").write_text("from made.b import x\n")
    (folder / "b.py").write_text("def f():\n    from made import c\n")
    (folder / "c.py").write_text("import made.a\n")
    (folder / "d.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made.e import y\n")
    (folder / "e.py").write_text("from made.d import z\n")
    assert import_circles(tmp_path, "made") == [["made.a", "made.b", "made.c"]]
