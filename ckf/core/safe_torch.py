"""Read weights from torch and pickle files without running code from them.

`torch.load(weights_only=True)` is tried first, but it refuses RecBole checkpoints, which hold a pickled ``Config``
object (``recbole.config.configurator.Config``), modules that were pickled whole, and plain pickle files.

Those files are read by an unpickler of this module. It passes the pickle no function of torch: the few names that
rebuild tensors map to a `_Callable`, which builds a tensor from bytes and cannot be changed. Classes of torch modules
and of RecBole become empty shells that keep their state and run nothing. Any other name is refused.
`torch.load(weights_only=False)` is never called, as it runs code.
"""

from __future__ import annotations

import io
import pickle
import sys
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from ckf.core.errors import DataError

_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_PLAIN = {"set": set, "dict": dict, "list": list, "int": int, "float": float, "str": str, "bool": bool}
_SHELLS = ("torch.nn.modules.", "recbole.")
"""Prefixes of modules whose classes are kept as shells: nothing of them is imported."""
_LEGACY = 0x1950A86A20F9469CFC6C
"""First number in files of torch before 1.6."""


class Shell:
    """Stand-in for an object of a class that is not imported: arguments are dropped, the state is kept as data."""

    state: Mapping[str, Any] = MappingProxyType({})

    def __new__(cls, *args: Any, **kwargs: Any) -> Shell:
        """Ignore the arguments."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # (dict, slots)
            state = state[0] or {}
        self.state = dict(state) if isinstance(state, Mapping) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore the items of dict subclasses."""

    def append(self, value: Any) -> None:
        """Ignore the items of list subclasses."""

    extend = append


class _Callable:
    """Stand-in for a function of torch: the pickle can call it, but neither read nor change its attributes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise DataError("the pickle tries to change a function")


def _tensor(storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    return torch.as_strided(storage, size, stride, offset).clone()  # refuses what lies beyond the storage


def _storage(data: bytes) -> Any:
    """The storage of a tensor in a plain pickle, flat."""
    found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    kept = found._untyped_storage if isinstance(found, torch.storage.TypedStorage) else found
    return torch.empty(0, dtype=getattr(found, "dtype", torch.uint8)).set_(kept)


def _nothing(*_: Any) -> str:
    return ""


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    **{("builtins", name): kind for name, kind in _PLAIN.items()},
    ("torch", "device"): _Callable(_nothing),
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _Callable(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Callable(lambda data, *_: data),
    ("torch.storage", "_load_from_bytes"): _Callable(_storage),
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
    **{("torch", name): getattr(torch, name) for name in _DTYPES},
}
_NUMPY = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
}


class _WeightsUnpickler(pickle.Unpickler):
    def __init__(self, file: Any, archive: _Archive | None = None) -> None:
        super().__init__(file)
        self.archive = archive

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("__builtin__", "builtins")  # its name in protocol 2
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) in _NAMES:
            return _NAMES[module, name]
        if (module, name) in _NUMPY:
            return super().find_class(module, name)
        if module.startswith(_SHELLS) and "." not in name:
            return type(name, (Shell,), {})
        raise DataError(f"the pickle asks for {module}.{name}, which a table of vectors does not need")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """A storage of the archive, flat."""
        kind, dtype, key, *_ = pid
        if self.archive is None or kind != "storage" or not isinstance(dtype, torch.dtype):
            raise DataError("the pickle refers to external data that is not an array of numbers")
        return self.archive.storage(str(key), dtype)


class _Archive:
    """A file of `torch.save`: a zip with a pickle and the bytes of each storage, uncompressed."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self.file = file
        names = [name for name in file.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1 or any(info.compress_type != zipfile.ZIP_STORED for info in file.infolist()):
            raise DataError("not an archive in the format of torch.save")
        self.root = names[0].removesuffix("data.pkl")
        if f"{self.root}constants.pkl" in file.namelist():
            raise DataError("a TorchScript program, which would have to be run")
        order = f"{self.root}byteorder"
        if order in file.namelist() and file.read(order).decode() != sys.byteorder:
            raise DataError("its numbers are in the byte order of another machine")
        self.kept: dict[str, torch.Tensor] = {}

    def storage(self, key: str, dtype: torch.dtype) -> torch.Tensor:
        """Numbers of one storage. [n]"""
        if key not in self.kept:
            self.kept[key] = torch.frombuffer(bytearray(self.file.read(f"{self.root}data/{key}")), dtype=torch.uint8)
        return self.kept[key].view(dtype)

    def load(self) -> Any:
        """Unpickle the saved object."""
        return _WeightsUnpickler(io.BytesIO(self.file.read(f"{self.root}data.pkl")), self).load()


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
    except Exception:  # the second reader gives the reason, if it fails too
        pass
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _Archive(archive).load()
        with path.open("rb") as file:
            value = _WeightsUnpickler(file).load()
    except DataError as error:
        raise DataError(f"{path}: refused: {error}") from None
    except Exception as error:  # a broken pickle may raise anything; the user needs the file's name
        raise DataError(f"{path}: not a readable torch file ({type(error).__name__}: {error})") from None
    if isinstance(value, int) and value == _LEGACY:
        raise DataError(f"{path}: a whole module in the format of torch before 1.6; save its state_dict() instead")
    return value


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
