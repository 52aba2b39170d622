"""Send batches between processes as plain bytes: torch would send a file handle for each of some hundred tensors."""

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
        """How to rebuild a tensor; none of these has a gradient."""
        return (torch.from_numpy, (np.ascontiguousarray(obj.numpy()),)) if isinstance(obj, Tensor) else NotImplemented


def packed(batch: object) -> bytes:
    """Serialise a batch with its tensors."""
    file = io.BytesIO()
    _Packer(file, protocol=pickle.HIGHEST_PROTOCOL).dump(batch)
    return file.getvalue()


def unpacked(data: bytes) -> Any:
    """Rebuild what `packed` has serialised."""
    return pickle.loads(data)  # safe here: the bytes come through a pipe from our own child process


def batch_workers(asked: int | None) -> int:
    """Number of processes that prepare batches: as asked for, else one where it can be forked and has a core."""
    if asked is not None:
        return asked
    return int(sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1)
