"""A sweep of the CF stage: a process a trial, figures while an epoch is hardly over, nothing done twice."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pytorch_lightning.loggers import Logger

from ckf.config.compose import compose
from ckf.config.schema import LoggerConfig
from ckf.core.artifact_store import ARTIFACT_FILE
from ckf.pipeline import run as pipeline

TINY = ["dataset.users=60", "dataset.items=40", "dataset.interactions_per_user=12", "tasks.candidates=5", "cf.epochs=3"]


class Noting(Logger):
    """Notes what it is given, and whether a finished CF model lay in the cache then."""

    cache: ClassVar[Path]
    lines: ClassVar[list[tuple[dict[str, float], bool]]] = []
    name, version = "noting", ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.lines.append((metrics, any(self.cache.glob(f"cf/mf_plus-*/{ARTIFACT_FILE}"))))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


def test_epochs_are_logged_while_the_model_is_trained(tmp_path):
    exp = compose([*TINY, "cf.patience_epochs=3", f"paths.cache={tmp_path}/cache", f"paths.outputs={tmp_path}/out"])[0]
    exp = dataclasses.replace(exp, logger=LoggerConfig(_target_=f"{__name__}.Noting"))
    Noting.cache = tmp_path / "cache"
    Noting.lines.clear()
    pipeline.cf(exp)
    assert [finished for _, finished in Noting.lines] == [False, False, False, True]
    assert [line["cf/epoch"] for line, _ in Noting.lines[:3]] == [1, 2, 3]
    assert "cf/kept/val_auc" in Noting.lines[3][0]
    pipeline.cf(exp)
    assert len(Noting.lines) == 4, "a model that is reused is no new trial"


@pytest.mark.slow
def test_a_sweep_over_models_and_widths_is_done_once(tmp_path):
    """`ckf cf -m cf=mf,sasrec cf.dim=…`, twice; Weights & Biases offline, as without a login."""
    swept = ["cf=mf,sasrec", "cf.dim=4,8", "--jobs", "2"]
    command = [sys.executable, "-m", "ckf", "cf", "-m", *TINY, *swept]
    unset = ("WANDB_API_KEY", "WANDB_MODE")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "HOME": str(tmp_path)}
    for state in ("4 done, 0 already done", "0 done, 4 already done"):
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert f"sweep: {state}" in ran.stdout
    runs = sorted((tmp_path / "outputs" / "cf").iterdir())
    assert len(runs) == 4
    assert all(len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 1 for run in runs)
    cards = [json.loads((run / "logged.json").read_text()) for run in runs]
    assert sorted(card["model"] for card in cards) == ["mf", "mf", "sasrec", "sasrec"]
    widths = [json.loads((tmp_path / card["cf"] / "manifest.json").read_text())["settings"]["dim"] for card in cards]
    assert sorted(widths) == [4, 4, 8, 8]
