"""Every key of every config dataclass has a text of its own, which docs/configuration.md prints."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ckf.config

CONFIG = Path(ckf.config.__file__).parent
FILES = [*sorted((CONFIG / "schema").glob("*.py")), CONFIG / "sweep_file.py"]
NOT_CONFIG = {"Trial"}
"""Dataclasses of these files that no user writes."""


def undocumented(source: str) -> list[str]:
    """The fields of a module's dataclasses without a docstring on the line below."""
    missing = []
    for cls in ast.walk(ast.parse(source)):
        if not isinstance(cls, ast.ClassDef) or cls.name in NOT_CONFIG:
            continue
        if not any("dataclass" in ast.unparse(decorator) for decorator in cls.decorator_list):
            continue
        for node, below in zip(cls.body, [*cls.body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and not _is_text(below):
                missing.append(f"{cls.name}.{ast.unparse(node.target)}")
    return missing


def _is_text(node: ast.stmt | None) -> bool:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return False
    return isinstance(node.value.value, str) and bool(node.value.value.strip())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_has_a_text(path: Path) -> None:
    assert undocumented(path.read_text(encoding="utf-8")) == []


def test_a_key_without_text_is_found() -> None:
    source = """
@dataclass
class Config:
    described: int = 0
    '''What it is.'''
    empty: int = 0
    ''' '''
    last: int = 0
"""
    assert undocumented(source) == ["Config.empty", "Config.last"]
