"""Seconds and memory of the bootstrap over users. From the repository's root:

OMP_NUM_THREADS=2 python experiments/speed/metrics/bench.py [rows] [resamples]
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ckf.metrics import compare, intervals
from ckf.tasks import BUILT_IN
from ckf.tasks.measure import compute_metrics, task_statistics

HERE = Path(__file__).parent


def predictions(task: str, rows: int, users: int, seed: int) -> pd.DataFrame:
    """Rows of a predictions file: clicks or ratings, or lists of ten candidates (``rows`` lists)."""
    draw, each = np.random.default_rng(seed), 10 if task == "topk" else 1
    lists = np.repeat(np.arange(rows), each)
    label = {"ctr": lambda: draw.random(rows) < 0.5, "rating": lambda: draw.integers(1, 6, rows)}.get(
        task, lambda: draw.permuted(np.tile(np.arange(10) == 0, (rows, 1)), axis=1).ravel()
    )()
    user = np.random.default_rng(0).integers(0, users, rows)[lists]
    table = {"example_id": lists, "user": user, "item": 1 + lists % 999, "label": label.astype(float)}
    score = draw.random(rows * each) if task != "rating" else draw.uniform(1, 5, rows)
    rest = {"score": score, "position": np.tile(np.arange(each), rows) if each > 1 else -1, "answer": "4"}
    return pd.DataFrame({"task": task, **table, **rest, "warm_seen": True, "warm_3": user % 2 == 0})


def timed(name: str, work: Callable[[], object]) -> dict[str, object]:
    """Run once: seconds on the clock and of the CPU (others may share it); peak memory of the process so far."""
    began, busy = time.perf_counter(), time.process_time()
    work()
    row: dict[str, object] = {"case": name, "seconds": round(time.perf_counter() - began, 2)}
    row["cpu_seconds"] = round(time.process_time() - busy, 2)
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(row, flush=True)
    return row


def main(rows: int, samples: int) -> None:
    """Each case on ``rows`` rows (lists, for topk), by 1,000 users, rows / 5 users and a user each."""
    found = []
    for users in (1_000, rows // 5, rows):
        ctr = predictions("ctr", rows, users, 1)
        one, count = task_statistics(BUILT_IN["ctr"], ctr, 10, only="auc")
        found.append(timed(f"AUC, {count} users", lambda: intervals(one, count, samples, 0)))  # noqa: B023
    everything = {task: predictions(task, rows, rows // 5, 1) for task in ("ctr", "rating", "topk")}
    for task, frame in everything.items():
        statistics, count = task_statistics(BUILT_IN[task], frame, 10)
        names = f"{task}: {len(statistics)} metrics"
        found.append(timed(f"{names}, {count} users", lambda: intervals(statistics, count, samples, 0)))  # noqa: B023
        other, _ = task_statistics(BUILT_IN[task], frame.assign(score=frame["score"].to_numpy()[::-1]), 10)
        found.append(timed(f"{names}, paired", lambda: compare(statistics, other, count, samples, 0)))  # noqa: B023
    found.append(
        timed("ctr: all metrics and slices, no resampling", lambda: compute_metrics(everything["ctr"], "test", 10))
    )
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__}
    machine["load"] = round(os.getloadavg()[0], 1)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    result = {"rows": rows, "resamples": samples, "machine": machine, "threads": threads, "cases": found}
    (HERE / "results.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["100000", "10000"][len(sys.argv) - 1 :])))
