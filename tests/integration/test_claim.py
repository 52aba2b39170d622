"""The project's main claim, guarded at the default job's full size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ckf.config.compose import compose
from ckf.core.artifact_store import read_json
from ckf.pipeline import run as pipeline


@pytest.fixture
def all_cores() -> Iterator[None]:
    """This test comes last and alone, so it may have the machine (the others run side by side)."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_ckf_beats_its_text_only_twin_and_its_control(all_cores, tmp_path: Path, monkeypatch):
    """The default job at its full size, seed 0: the 95% interval of CKF minus text-only in ctr AUC is above 0."""
    monkeypatch.chdir(tmp_path)
    fused = read_json(pipeline.run(compose(["logger=csv"])[0]) / "metrics.json")
    assert fused["test/ctr/auc_minus_text_low"] > 0
    alone = compose(["logger=csv", "fusion=random", "baselines.text_only=false"])[0]
    control = read_json(pipeline.run(alone) / "metrics.json")
    assert fused["test/ctr/auc"] > control["test/ctr/auc"] + 0.02
