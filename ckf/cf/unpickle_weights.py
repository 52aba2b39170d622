"""Weights out of torch files without running what a file says.

``weights_only=True`` comes first. What it refuses (a whole pickled module, a RecBole checkpoint with its
config objects) is read by an unpickler that admits the few names tensors are rebuilt with; classes of
modules and of RecBole become empty shells that keep their state and run nothing; any other name is refused.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch

from ckf.errors import DataError

_ALLOWED = {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("builtins", "set"),
    ("builtins", "dict"),
    ("builtins", "list"),
    ("builtins", "int"),
    ("builtins", "float"),
    ("builtins", "str"),
    ("builtins", "bool"),
    ("torch", "device"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    *(("torch", f"{kind}Storage") for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Byte", "Bool")),
    *(("torch", kind) for kind in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")),
}
_SHELLS = ("torch.nn.modules.", "recbole.")
"""Prefixes of modules whose classes are kept as shells: nothing of them is imported."""


class Shell:
    """An object of a class that is not let in: its arguments are dropped, its state is kept as data."""

    state: Mapping[str, Any] = MappingProxyType({})

    def __new__(cls, *args: Any, **kwargs: Any) -> Shell:
        """Rebuild nothing of the arguments."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Keep none of the arguments."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # (dict, slots)
            state = state[0] or {}
        self.state = dict(state) if isinstance(state, Mapping) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take the items of dict subclasses and drop them."""

    def append(self, value: Any) -> None:
        """Take the items of list subclasses and drop them."""

    extend = append


class _WeightsUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("__builtin__", "builtins")  # its name in protocol 2
        if (module, name) == ("torch.storage", "_load_from_bytes"):  # a plain pickle of a tensor
            return _storage
        if module.startswith(_SHELLS) and "." not in name:
            return type(name, (Shell,), {})
        if (module, name) not in _ALLOWED:
            raise DataError(f"the pickle asks for {module}.{name}, which a table of vectors does not need")
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _load(file: Any, **kwargs: Any) -> Any:
    return _WeightsUnpickler(file, **kwargs).load()


_PICKLE = ModuleType("pickle")  # what torch.load asks of the pickle module it is given
_PICKLE.Unpickler, _PICKLE.load = _WeightsUnpickler, _load  # type: ignore[attr-defined]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a torch or pickle file, by its name in the state dict ("" for a bare tensor).

    Raises:
        DataError: not readable, or it asks for something that tensors do not need.
    """
    found: dict[str, torch.Tensor] = {}
    _collect(_read(path), "", found)
    if not found:
        raise DataError(f"{path}: holds no tensor")
    return found


def _read(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # of pickle protocols and changed sources
        return _loaded(path)


def _loaded(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception:  # says no more than that the file needs the second look, which names the reason
        pass
    try:
        if path.open("rb").read(2) == b"PK" or path.suffix in (".pt", ".pth", ".ckpt", ".bin"):
            return torch.load(path, map_location="cpu", pickle_module=_PICKLE, weights_only=False)
        with path.open("rb") as file:
            return _load(file)
    except DataError as error:
        raise DataError(f"{path}: refused: {error}") from None
    except Exception as error:  # a broken pickle may raise anything; the user needs the file's name
        raise DataError(f"{path}: not a readable torch file ({type(error).__name__}: {error})") from None


def _collect(value: Any, name: str, found: dict[str, torch.Tensor]) -> None:
    """Walk dicts and module shells; the ``state_dict`` of a checkpoint and a module's parts add no name."""
    if isinstance(value, torch.Tensor):
        found[name] = value.detach()
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        found[name] = torch.from_numpy(value)
    elif isinstance(value, Shell):
        for part in ("_parameters", "_buffers", "_modules"):
            _collect(value.state.get(part), name, found)
    elif isinstance(value, (dict, OrderedDict)):
        for key, inner in value.items():
            transparent = key == "state_dict" and not name
            _collect(inner, name if transparent else f"{name}.{key}" if name else str(key), found)
