"""One small finished run for all tests that only look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

import ckf
from ckf.config.compose import compose
from ckf.inference.predictor import Predictor
from ckf.pipeline import run as pipeline

SMALL = [
    "dataset.users=80",
    "dataset.items=60",
    "dataset.interactions_per_user=16",
    "pretrain.steps=20",
    "pretrain.batch_size=8",
    "backbone.hidden_size=32",
    "cf.epochs=5",
    "train.max_steps=8",
    "train.global_batch_size=16",
    "train.log_every_steps=2",
    "train.checkpoint_every_steps=4",
    "evaluate.bootstrap_samples=50",
    "tasks.candidates=5",
    "logger=csv",
]


def run_small(folder: Path, *overrides: str) -> Path:
    """Run the main job in a folder of its own; returns the run folder."""
    barred = {
        "method=cf_only": ("backbone.",),
        "method=bias": ("backbone.", "cf."),
        "backbone=hf": ("backbone.hidden_size", "pretrain."),
    }
    small = [x for x in SMALL if not any(x.startswith(barred.get(o, ("-",))) for o in overrides)]
    paths = [f"paths.cache={folder / 'cache'}", f"paths.outputs={folder / 'outputs'}"]
    return pipeline.run(compose([*small, *paths, *overrides])[0])


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def finished(home: Path) -> Path:
    return run_small(home)


@pytest.fixture(scope="session")
def trained(finished: Path) -> Predictor:
    """The finished run, loaded."""
    return ckf.load(finished)
