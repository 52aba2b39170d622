"""Batches between processes as plain bytes: torch would send a file handle for each of a step's hundred tensors."""

from __future__ import annotations

import io
import os
import pickle
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class _Packer(pickle.Pickler):
    """Pickles CPU tensors as numpy arrays."""

    def reducer_override(self, obj: Any) -> Any:
        """How a tensor is put together again; None of ours needs a gradient."""
        return (torch.from_numpy, (np.ascontiguousarray(obj.numpy()),)) if isinstance(obj, Tensor) else NotImplemented


def packed(batch: object) -> bytes:
    """A batch with its tensors, as bytes."""
    file = io.BytesIO()
    _Packer(file, protocol=pickle.HIGHEST_PROTOCOL).dump(batch)
    return file.getvalue()


def unpacked(data: bytes) -> Any:
    """What `packed` has packed. For bytes of one's own processes alone, as every pickle."""
    return pickle.loads(data)


def batch_workers(asked: int | None) -> int:
    """Processes that prepare batches: as many as asked for; else one, where it can be forked and has a core."""
    if asked is not None:
        return asked
    return int(sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1)


class PackedSteps(Dataset[bytes]):
    """The batches of another dataset, packed."""

    def __init__(self, steps: Dataset[Any]) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> bytes:
        return packed(self.steps[index])
