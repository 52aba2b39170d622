"""The modules of ckf/config import each other in one direction, imports inside functions included."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import ckf.config

ROOT = Path(ckf.config.__file__).parents[2]


def imports() -> dict[str, set[str]]:
    """Each module of ckf/config and those of ckf/config that it imports."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "ckf/config").rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        nodes = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)]
        names = {name for n in nodes for alias in n.names for name in (n.module or "", f"{n.module}.{alias.name}")}
        found[module] = names & files.keys() - {"ckf.config"}
    return found


def test_no_circle() -> None:
    found = imports()
    assert "ckf.config.rules.groups" in found["ckf.config.validate"]
    TopologicalSorter(found).prepare()
