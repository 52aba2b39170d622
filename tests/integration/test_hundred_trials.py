"""A hundred trials, ten of them broken, and a coordinator that is killed: the same command does exactly the rest.

Each trial prepares a small csv dataset of its own, so that all of it is the real thing: processes, the check for what
is done (in the trial, under the artifact's lock), failures of a user's data, and their messages.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ckf.core.artifact_store import read_json

TRIALS, BROKEN = 100, set(range(7, 100, 10))
HEADER = "user,item,rating,timestamp\n"


def write_data(home: Path) -> None:
    for number in range(TRIALS):
        folder = home / f"d{number}"
        folder.mkdir()
        draw = random.Random(number)
        seen = [(user, item) for user in range(1, 13) for item in draw.sample(range(1, 31), 15)]
        rows = [f"{user},{item},{draw.randint(1, 5)},{draw.randint(1, 10**6)}" for user, item in seen]
        text = HEADER + "\n".join(rows) + "\n"
        (folder / "interactions.csv").write_text(text.replace(",rating,", ",verdict,") if number in BROKEN else text)


def command() -> list[str]:
    roots = ",".join(f"d{number}" for number in range(TRIALS))
    keys = ["dataset=csv", "dataset.interactions=interactions.csv", "dataset.supported_tasks=[ctr,rating]"]
    return [sys.executable, "-m", "ckf", "prepare", "-m", *keys, f"dataset.root={roots}", "--jobs", "3"]


def built(home: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in home.glob("cache/dataset/*/artifact.json")}


def states(said: str) -> Counter[str]:
    (line,) = [line for line in said.splitlines() if line.startswith("sweep: ") and " done, " in line]
    return Counter({state: int(n) for n, state in (part.split(" ", 1) for part in line[7:].split(", "))})


@pytest.mark.slow
def test_a_killed_sweep_of_a_hundred_trials_is_finished_by_the_same_command(tmp_path: Path) -> None:
    write_data(tmp_path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    first = subprocess.Popen(command(), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    while len(built(tmp_path)) < 25:
        assert first.poll() is None
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert "[100/100]" not in (first.stdout.read() if first.stdout else "")
    while len(running := [p for p in tmp_path.glob("outputs/sweeps/*/*") if _is_open(p)]):
        time.sleep(0.2)
        assert len(running) <= 3, "orphans end by themselves; none is started"
    before = built(tmp_path)
    assert len(before) < 90

    second = subprocess.run(command(), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert states(second.stdout) == {"done": 90 - len(before), "already done": len(before), "failed": 10}
    assert "10 of 100 trials failed" in second.stderr
    assert second.stdout.count("rating") >= 10, "each failure says what is wrong with the user's data"
    after = built(tmp_path)
    assert len(after) == 90
    assert before.items() <= after.items(), "nothing was built twice or overwritten"

    for number in BROKEN:
        path = tmp_path / f"d{number}/interactions.csv"
        path.write_text(path.read_text().replace(",verdict,", ",rating,"))
    third = subprocess.run(command(), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr
    assert states(third.stdout) == {"done": 10, "already done": 90, "failed": 0}
    assert third.stdout.count(": already done in ") == 90
    assert len(built(tmp_path)) == 100
    assert after.items() <= built(tmp_path).items()
    (place,) = tmp_path.glob("outputs/sweeps/*")
    assert str(place.relative_to(tmp_path)) == third.stdout.splitlines()[-1]
    assert read_json(place / "sweep.json")["counts"]["done"] == 10


def _is_open(folder: Path) -> bool:
    """Whether a trial was started and has not said how it ended."""
    return (folder / ".started").is_file() and not (folder / "outcome.json").is_file()
