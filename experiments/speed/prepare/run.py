"""Preparing reviews three ways, side by side: the table in RESULTS.md.

Usage: python run.py FOLDER [ROWS] [ROUNDS] [WAYS] [plain]; the made files go to FOLDER and are deleted. Each way
is a process of its own; rounds alternate; medians and ratios are printed as Markdown and JSON lines. With
``plain`` the reviews are unpacked before.
"""

from __future__ import annotations

import gzip
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(
    folder: Path, rows: int = 1_000_000, rounds: int = 3, ways: str = "ckf,ckf_steps,pandas,rows", form: str = "gz"
) -> None:
    """Make the files, run the ways in turn, print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / name for name in ("reviews_Made_5.json.gz", "meta_Made.json.gz")]
    try:
        if not all(path.exists() for path in made):
            subprocess.run([sys.executable, HERE / "make_reviews.py", folder, str(rows)], check=True)
        if form == "plain":
            made[0] = _unpacked(made[0])
        print(f"{rows:,} reviews, {made[0].stat().st_size / 2**20:.0f} MiB {form}", flush=True)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways.split(",")}
        for _ in range(rounds):
            for way, runs in found.items():
                done = subprocess.run(
                    [sys.executable, HERE / "ways.py", way, folder], check=True, capture_output=True, text=True
                )
                print(done.stdout.strip().splitlines()[-1], flush=True)
                runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
    finally:
        for path in made:
            path.unlink(missing_ok=True)
    seconds = {way: statistics.median(run["seconds"] for run in runs) for way, runs in found.items()}
    ours = [way for way in found if way.startswith("ckf")]
    print(f"| way | seconds (median) | peak memory, GiB | rows kept | against {' | against '.join(ours)} |")
    print("|---" * (4 + len(ours)) + "|")
    for way, runs in found.items():
        peak = max(run["peak_gib"] for run in runs)
        ratios = " | ".join(f"{seconds[way] / seconds[one]:.1f}" for one in ours)
        print(f"| {way} | {seconds[way]:.2f} | {peak:.2f} | {runs[0]['rows']:,} | {ratios} |")


def _unpacked(packed: Path) -> Path:
    """The file as it is without its gzip, which goes."""
    plain = packed.with_suffix("")
    with gzip.open(packed, "rb") as source, plain.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
    packed.unlink()
    return plain


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:4]), *sys.argv[4:6])
