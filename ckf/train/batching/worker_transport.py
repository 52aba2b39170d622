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
    """What `packed` has packed."""
    return pickle.loads(data)  # a pickle runs what it says; these bytes come through a pipe from our own child alone


def batch_workers(asked: int | None) -> int:
    """Processes that prepare batches: as many as asked for; else one, where it can be forked and has a core."""
    if asked is not None:
        return asked
    return int(sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1)
