"""Ten million made interactions of a million users: seconds and peak memory of one epoch: large.py MODEL [FOLDS].

Tables are of 1,000,001 and 100,001 rows. Those of mf have sparse gradients, a step touches its own rows alone;
lightgcn propagates all of them in each step.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ours import epoch_seconds, interactions, model_class

USERS, ITEMS, ROWS, DIM = 1_000_000, 100_000, 10_000_000, 16
BATCH = {"mf": 65_536, "lightgcn": 5_000_000}


def main(name: str, folds: int) -> dict[str, float]:
    """Time one epoch; peak resident memory is the process's, data and set-up included."""
    draw = np.random.default_rng(0)
    user = draw.integers(1, USERS + 1, ROWS, dtype=np.int32)
    item = (ITEMS * draw.random(ROWS, dtype=np.float32) ** 2).astype(np.int32).clip(0, ITEMS - 1) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.npz"
        np.savez(path, user=user, item=item, timestamp=np.arange(ROWS))
        del user, item
        data = interactions(path, 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    seconds = epoch_seconds(data, *model_class(name, 1, BATCH[name], DIM, folds=folds), clock=time.perf_counter)
    return {
        "epoch_seconds": round(seconds[0], 1),
        "total_seconds": round(time.perf_counter() - start, 1),
        "data_gib": round(before, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


if __name__ == "__main__":
    print(sys.argv[1], json.dumps(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2)))
