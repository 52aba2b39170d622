"""ckf's MF (BPR), LightGCN and SASRec beside RecBole's, on the same made interactions, in alternating runs.

    python experiments/speed/cf/compare.py RECBOLE_PYTHON [REPEATS [MODEL ...]]

RECBOLE_PYTHON is the interpreter of an environment with RecBole 1.2.1 (STACK: numpy < 2, pandas < 2.3,
scipy < 1.11, setuptools < 80). Prints examples per CPU second of one thread (what other programs of the
machine do then counts for little), medians over all timed epochs, and the ratios.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

USERS, ITEMS, ROWS = 943, 1682, 100_000
BATCH, DIM = 2048, 64
EPOCHS = {"mf": 4, "lightgcn": 2, "sasrec": 1}
HERE = Path(__file__).parent


def made(folder: Path) -> None:
    """Distinct user-item pairs, long tails on both sides, at distinct times; as npz and as RecBole's atomic file."""
    draw = np.random.default_rng(0)
    users, items = (1 / np.arange(1, n + 1) ** 0.6 for n in (USERS, ITEMS))
    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < ROWS:
        user = draw.choice(USERS, 2 * ROWS, p=users / users.sum())
        item = draw.choice(ITEMS, 2 * ROWS, p=items / items.sum())
        pairs = np.unique(np.concatenate([pairs, user * ITEMS + item]))
    pairs = draw.permutation(pairs)[:ROWS]
    user, item, when = pairs // ITEMS + 1, pairs % ITEMS + 1, np.arange(ROWS)
    np.savez(folder / "made.npz", user=user, item=item, timestamp=when)
    (folder / "made").mkdir()
    lines = [f"{u}\t{i}\t{t}\n" for u, i, t in zip(user, item, when, strict=True)]
    head = "user_id:token\titem_id:token\ttimestamp:float\n"
    (folder / "made" / "made.inter").write_text(head + "".join(lines))


def timed(command: list[str], cwd: Path) -> list[float]:
    """The list that a run prints last."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(recbole: str, repeats: int, models: list[str]) -> None:
    """Print one line of the table for each model."""
    print("| model | ckf, examples/CPU s | RecBole, examples/CPU s | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made(folder)
        for model in models:
            arguments = [model, str(EPOCHS[model]), str(BATCH), str(DIM)]
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(repeats):
                ours += [
                    ROWS / s
                    for s in timed(
                        [sys.executable, str(HERE / "ours.py"), str(folder / "made.npz"), *arguments], folder
                    )
                ]
                rows, *seconds = timed([recbole, str(HERE / "theirs.py"), str(folder), *arguments], folder)
                theirs += [rows / s for s in seconds]
            a, b = statistics.median(ours), statistics.median(theirs)
            print(f"| {model} | {a:,.0f} | {b:,.0f} | {a / b:.2f}x |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3, sys.argv[3:] or ["mf", "lightgcn", "sasrec"])
