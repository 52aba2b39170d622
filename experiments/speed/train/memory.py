"""Peak memory of a step: ``OMP_NUM_THREADS=1 python experiments/speed/train/memory.py``.

Each contender takes one step in a process of its own, forked from one that holds the world; its peak is what it
adds to that (copies of the weights included). Then ckf's step with item tables of 10,000 and of 10 million rows; there
the pages of the mapped table are told apart: the kernel maps 16 neighbours of each page that is read, and takes
them back when memory is short.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from contenders import Ours, Released, StockPeft
from safetensors import safe_open
from safetensors.torch import save_file
from world import SHAPES, World

from ckf.cf.vectors.tables import VectorTables

WIDTH = 64  # of the vectors, as `World` has them


def peak_of(work: Callable[[], Any]) -> tuple[float, float]:
    """MiB that a forked process adds at its peak while it works, and how many of them are pages of mapped files."""
    read, write = os.pipe()
    if not os.fork():
        try:
            before, mapped = resident(), resident(mapped=True)
            work()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            os.write(write, f"{peak - before} {resident(mapped=True) - mapped}".encode())
        except Exception:  # told here; the parent finds no figures and stops with an error
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    os.wait()
    with os.fdopen(read) as pipe:
        peak, of_files = pipe.read().split()
    return float(peak), float(of_files)


def resident(*, mapped: bool = False) -> float:
    """MiB that this process holds now: all, or those that are pages of files."""
    pages = Path("/proc/self/statm").read_text().split()[2 if mapped else 1]
    return int(pages) * resource.getpagesize() / 2**20


def step_of(make: Any, world: World, number: int = 0) -> Callable[[], None]:
    """One step of a contender."""

    def work() -> None:
        contender = make(world)
        contender.backward(contender.prepare(steps[number]))
        contender.finish()

    steps = world.steps(1)
    return work


def with_items(world: World, folder: Path, items: int) -> VectorTables:
    """Tables with so many items, written by a process of its own and mapped."""
    path = folder / f"{items}.safetensors"
    peak_of(lambda: save_file({"vectors": torch.ones(items + 1, WIDTH)}, path))
    with safe_open(path, framework="pt") as file:
        return VectorTables(torch.ones(len(world.tables.users), WIDTH), file.get_tensor("vectors"))


def main() -> None:
    """Print both tables."""
    overrides = [x for x in sys.argv[1:] if "." in x.partition("=")[0]]
    cache = next((Path(x.partition("=")[2]) for x in sys.argv[1:] if x.startswith("cache=")), Path("cache"))
    for vocabulary in (32_000, 128_000):
        world = World(dataclasses.replace(SHAPES["small"], vocab_size=vocabulary), cache, overrides)
        for name, make in (("ckf", Ours), ("stock PEFT", StockPeft), ("as released", Released)):
            print(f"| {vocabulary:,} words | {name} | {peak_of(step_of(make, world))[0]:,.0f} MiB |", flush=True)
    world = World(SHAPES["tiny"], cache, overrides)
    with tempfile.TemporaryDirectory() as folder:
        for items in (10_000, 10_000_000):
            tables = with_items(world, Path(folder), items)
            world.tables, world.collator = tables, world.collator.with_tables(tables)
            peak, of_files = peak_of(step_of(Ours, world))
            print(f"| {items:,} items | ckf | {peak:,.0f} MiB | {of_files:,.0f} MiB mapped |", flush=True)


if __name__ == "__main__":
    main()
