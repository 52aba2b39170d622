"""Training steps side by side: ``python experiments/speed/train/compare.py [tiny|small|medium ...] [rounds=15]``.

The same weights and examples; gradients are compared first, then in each round every contender takes two
steps, of which the second is timed (as in training, where a step follows one of its own).
Prints medians of the clock's and of the CPU's time (which other work on the machine moves less), ratios to ckf,
and the floating-point operations of each contender's passes.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from contenders import Ours, Released, StockPeft
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from world import SHAPES, Step, World, padding

CONTENDERS = {"ckf": Ours, "stock PEFT": StockPeft, "as released": Released}
ATTENTION = {  # torch counts these on a GPU alone
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def operations(contender: Any, step: Step) -> float:
    """Floating-point operations of a step's forward and backward passes, in units of 10^9."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        contender.backward(contender.prepare(step))
    contender.finish()
    return counter.get_total_flops() / 1e9


def largest_difference(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Largest difference of a parameter's gradient over its norm (or a hundredth of the largest, where smaller)."""
    assert mine.keys() == theirs.keys()
    floor = 0.01 * torch.stack([g.norm() for g in theirs.values()]).max()
    return max(float((mine[n] - theirs[n]).norm() / theirs[n].norm().clamp(min=floor)) for n in theirs)


def compare(shape: str, rounds: int, cache: Path, overrides: list[str]) -> dict[str, Any]:
    """One shape's table."""
    world = World(SHAPES[shape], cache, overrides)
    steps = world.steps(min(rounds, 8))
    contenders = {name: make(world) for name, make in CONTENDERS.items()}
    first = {}
    for name, contender in contenders.items():
        contender.backward(contender.prepare(steps[0]))
        first[name] = contender.gradients()
        contender.finish()
    found: dict[str, Any] = {name: {"gradient": largest_difference(first["ckf"], g)} for name, g in first.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    of_cpu: dict[str, list[float]] = {name: [] for name in contenders}
    prepared = {name: [contender.prepare(step) for step in steps] for name, contender in contenders.items()}
    for turn in range(rounds):
        for name, contender in contenders.items():
            for _ in range(2):  # the first finds the caches as another contender left them
                started, started_cpu = time.perf_counter(), time.process_time()
                contender.backward(prepared[name][turn % len(steps)])
                contender.finish()
            seconds[name].append(time.perf_counter() - started)
            of_cpu[name].append(time.process_time() - started_cpu)
    for name, contender in contenders.items():
        median = statistics.median(seconds[name])
        size = world.exp.train.global_batch_size
        found[name] |= {"seconds": median, "examples_per_s": size / median, "gflop": operations(contender, steps[0])}
        found[name]["cpu"] = statistics.median(of_cpu[name])
    ours, theirs = zip(*(padding(step) for step in steps), strict=True)
    found["padding"] = {"ckf": statistics.mean(ours), "by task": statistics.mean(theirs)}
    return found


def main() -> None:
    """Compare the shapes named on the command line."""
    shapes = [x for x in sys.argv[1:] if x in SHAPES] or ["tiny", "small"]
    rounds = next((int(x.partition("=")[2]) for x in sys.argv[1:] if x.startswith("rounds=")), 15)
    overrides = [x for x in sys.argv[1:] if "." in x.partition("=")[0]]
    cache = next((Path(x.partition("=")[2]) for x in sys.argv[1:] if x.startswith("cache=")), Path("cache"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds")
    for shape in shapes:
        found = compare(shape, rounds, cache, overrides)
        print(json.dumps({"shape": shape, "padding": found.pop("padding")}))
        for name, row in found.items():
            ours = found["ckf"]
            print(
                f"| {shape} | {name} | {1000 * row['seconds']:.0f} ms | {row['seconds'] / ours['seconds']:.2f}x "
                f"| {1000 * row['cpu']:.0f} ms | {row['cpu'] / ours['cpu']:.2f}x "
                f"| {row['gflop']:.2f} | {row['gflop'] / ours['gflop']:.2f}x | {row['gradient']:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
