"""Read pickled tables without running code from the file: only the types that a table needs are allowed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pandas as pd

from ckf.core.errors import DataError

# (module, name) exactly; nothing here does more than rebuild arrays, indexes and blocks
_ALLOWED = {
    ("builtins", "slice"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("pandas", "DataFrame"),
    ("pandas", "Index"),
    ("pandas", "StringDtype"),
    ("pandas.arrays", "ArrowStringArray"),
    ("pandas.core.arrays.string_", "StringDtype"),
    ("pandas", "RangeIndex"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pyarrow.lib", "_restore_array"),
    ("pyarrow.lib", "py_buffer"),
    ("pyarrow.lib", "type_for_alias"),
} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
}


class _TableUnpickler(pickle.Unpickler):
    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed class; a dotted name could reach an attribute, so the list holds none."""
        if (module, name) not in _ALLOWED:
            raise DataError(f"{self.path}: refused: the pickle asks for {module}.{name}, which a table does not need")
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)  # its name since numpy 2


def read_pickled_table(path: Path) -> pd.DataFrame:
    """Read a pickled DataFrame.

    Raises:
        DataError: no such file, not a pickle, not a table, or a pickle that asks for anything else.
    """
    try:
        with path.open("rb") as file:
            table = _TableUnpickler(file, path).load()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except Exception as error:  # a broken pickle may raise anything; the user needs the file's name
        raise DataError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from None
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"{path}: holds a {type(table).__name__}, expected a pandas DataFrame")
    return table
