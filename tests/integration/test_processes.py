"""Two processes train as one does: the same losses step by step, from the same global batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import SMALL
from tests.integration.test_surroundings import ckf

STEPS = 20


def losses(home: Path, name: str, *overrides: str) -> list[float]:
    small = [x for x in SMALL if not x.startswith(("train.max_steps", "train.log_every"))]
    done = ckf(
        "train", *small, f"train.max_steps={STEPS}", "train.log_every_steps=1", "baselines.text=false",
        f"paths.cache={home / 'cache'}", f"paths.outputs={home / name}", *overrides, cwd=home, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    run = Path(done.stdout.strip().splitlines()[-1])
    return [json.loads(line)["train/loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(home):
    """Normalised by the global batch's answer tokens; a loss by rank, bucket or micro-batch would differ at once."""
    one = losses(home, "one")
    assert len(one) == STEPS
    assert losses(home, "two", "trainer=ddp_cpu") == pytest.approx(one, abs=1e-5)
