"""The files of one table: a file, a folder of parts or a glob; and what key=value folders say of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from ckf.core.errors import DataError

PARQUET = (".parquet", ".pq", ".parq")
_TEXT = (".csv", ".tsv", ".txt", ".dat", ".tab")
_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Part:
    """One file of a table; ``folders`` are the values of its key=value folders."""

    path: Path
    folders: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def is_parquet(self) -> bool:
        """Whether its name is that of a parquet file."""
        return self.path.name.lower().endswith(PARQUET)


def table_parts(root: Path, name: str, key: str, *, parquet: bool) -> list[Part]:
    """The parts of ``root/name`` in the order of their names; hidden files and marks (``_SUCCESS``) are passed over.

    ``parquet`` says which files of a folder are parts: parquet or text.

    Raises:
        DataError: there is no such file, or none in the folder.
    """
    path = root / name
    if path.is_file():
        return [Part(path)]
    if path.is_dir():
        found = _below(path, parquet=parquet)
        if not found:
            raise DataError(f"{key}: {path}: the folder holds no {_kinds(parquet)} file")
        return [Part(file, _folders(file.relative_to(path).parent)) for file in found]
    if not any(c in name for c in "*?["):
        raise DataError(f"{key}: {path}: no such file")
    found = []
    for match in sorted(root.glob(name)):
        found += _below(match, parquet=parquet) if match.is_dir() else [match]
    found = [file for file in dict.fromkeys(found) if not file.name.startswith((".", "_"))]
    if not found:
        raise DataError(f"{key}: {path}: no file matches")
    return [Part(file, _folders(file.relative_to(root).parent)) for file in found]


def _below(folder: Path, *, parquet: bool) -> list[Path]:
    endings = PARQUET if parquet else (*_TEXT, *(f"{ending}.gz" for ending in _TEXT))
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return [
        file
        for file in files
        if file.name.lower().endswith(endings)
        and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    ]


def _kinds(parquet: bool) -> str:
    return " or ".join(PARQUET if parquet else _TEXT)


def _folders(path: Path) -> dict[str, str | None]:
    pairs = (part.split("=", 1) for part in path.parts if "=" in part)
    return {unquote(key): None if value == _NULL else unquote(value) for key, value in pairs}
