"""The step log of a run that was killed and continued, and what the CF stage hands to a logger."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from pytorch_lightning.loggers import Logger

from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig, LoggerConfig
from ckf.core.artifact_store import write_json
from ckf.tracking.cf_training import LOGGED, CFLog, _epochs
from ckf.tracking.loggers import STEPS, JsonlLogger


def test_a_resumed_run_logs_again_from_its_checkpoint_on(tmp_path):
    """Also where the kill cut the last line short."""
    (tmp_path / STEPS).write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a": 2.0}\n{"step": 3, "a": 3.', encoding="utf-8")
    logger = JsonlLogger(tmp_path, first_step=2)
    logger.log_metrics({"a": 9.0, "epoch": 0.0}, step=2)
    lines = [json.loads(line) for line in (tmp_path / STEPS).read_text(encoding="utf-8").splitlines()]
    assert lines == [{"step": 1, "a": 1.0}, {"step": 2, "a": 9.0}]


def test_a_new_run_starts_an_empty_log(tmp_path):
    (tmp_path / STEPS).write_text('{"step": 1}\n', encoding="utf-8")
    JsonlLogger(tmp_path)
    assert (tmp_path / STEPS).read_text(encoding="utf-8") == ""


class Kept(Logger):
    """Keeps what it is given; as Lightning's loggers take it."""

    lines: ClassVar[list[tuple[int | None, dict[str, float]]]] = []
    name, version = "kept", ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.lines.append((step, metrics))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


@pytest.fixture
def cf(tmp_path):
    folder = tmp_path / "mf-0123"
    folder.mkdir()
    write_json(folder / "manifest.json", {"model": "mf", "epoch": 2, "epochs_run": 2, "val_auc": 0.7, "rows": 9})
    lines = [{"epoch": 1, "train_loss": 0.6, "val_auc": 0.6}, {"epoch": 2, "train_loss": 0.5, "val_auc": 0.7}]
    (folder / STEPS).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def logged(exp: ExperimentConfig, cf: Path) -> Path:
    with CFLog(exp, cf) as log:
        log.kept()
    return log.run


def test_the_epochs_of_a_cf_model_reach_the_configured_logger_once(tmp_path, cf):
    exp = compose(["logger=csv", f"paths.outputs={tmp_path}/outputs"])[0]
    own = dataclasses.replace(exp, logger=LoggerConfig(_target_=f"{__name__}.Kept"))
    Kept.lines.clear()
    run = logged(own, cf)
    assert run == tmp_path / "outputs" / "cf" / "mf-0123"
    assert [step for step, _ in Kept.lines] == [1, 2, 3]
    assert Kept.lines[1][1]["cf/val_auc"] == 0.7
    assert Kept.lines[2][1] == {"cf/kept/epoch": 2, "cf/kept/epochs_run": 2, "cf/kept/val_auc": 0.7}
    logged(own, cf)
    assert len(Kept.lines) == 3, "a CF model that is reused is no new trial"
    logged(dataclasses.replace(own, overwrite=True), cf)
    assert len(Kept.lines) == 6


def test_an_epoch_can_be_read_while_the_next_one_runs(tmp_path, cf):
    exp = compose(["logger=csv", f"paths.outputs={tmp_path}/outputs"])[0]
    with CFLog(exp, cf) as log:
        for number, line in enumerate(_epochs(cf), 1):
            log.epoch(line)
            assert len(pd.read_csv(log.run / "csv" / "metrics.csv")) == number
        assert not (log.run / LOGGED).exists()
        log.kept()
    table = pd.read_csv(log.run / "csv" / "metrics.csv")
    assert table["cf/val_auc"].dropna().tolist() == [0.6, 0.7], "each once"
    assert table["cf/kept/val_auc"].dropna().tolist() == [0.7]


def test_cf_figures_as_csv_and_in_an_offline_run_of_wandb(tmp_path, cf, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no login
    for logger in ("csv", "wandb"):
        exp = compose([f"logger={logger}", f"paths.outputs={tmp_path}/{logger}"])[0]
        run = logged(exp, cf)
        if logger == "csv":
            table = pd.read_csv(run / "csv" / "metrics.csv")
            assert table["cf/val_auc"].dropna().tolist() == [0.6, 0.7]
        else:
            assert len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 1
