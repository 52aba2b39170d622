"""Weights & Biases: how its logger is made, what is sent, what an offline run leaves, and what never goes there."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest

from ckf.config.compose import compose
from ckf.core.errors import CkfError, ConfigError
from ckf.report import wandb_tables as dashboard
from ckf.report.wandb_tables import mirror_run
from ckf.sweep.run_sweep import in_sweep
from ckf.tracking.loggers import build_logger, finish
from tests.unit.report.runs import make_run


class Recorder:
    """In place of Lightning's WandbLogger and of W&B's run: notes every call."""

    made: ClassVar[dict[str, Any]] = {}

    def __init__(self, **arguments: Any) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.summary: dict[str, float] = {}
        self.offline = False
        Recorder.made = arguments

    @property
    def experiment(self) -> Recorder:
        return self

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.calls.append(("config", params))

    def log(self, values: dict[str, Any]) -> None:
        self.calls.append(("log", values))

    def use_artifact(self, artifact: Any) -> None:
        self.calls.append(("use", artifact))

    def log_artifact(self, artifact: Any) -> None:
        self.calls.append(("made", artifact))

    def of(self, kind: str) -> list[Any]:
        return [value for name, value in self.calls if name == kind]


RECORDED = ["logger._target_=tests.unit.tracking.test_loggers_wandb.Recorder"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with predictions, adapters and its dataset's manifest."""
    folder = make_run(
        tmp_path / "synthetic-tiny-meta-0123-seed0", metrics={"diagnostics/change_zeroed": 0.2, "diagnostics/n": 9}
    )
    rows = [
        {"source": source, "example_id": f"ctr/test/{i}-1", "task": "ctr", "user": i, "item": 1, "label": i % 2,
         "score": (i % 7 + 1) / 9, "answer": "Yes"}
        for source in ("model", "bias") for i in range(40)
    ]  # fmt: skip
    (folder / "predictions").mkdir()
    pd.DataFrame(rows).to_parquet(folder / "predictions/test.parquet")
    (folder / "adapters/shared").mkdir(parents=True)
    (folder / "adapters/shared/adapter_config.json").write_text("{}")
    data = tmp_path / "cache/dataset/synthetic-abc"
    data.mkdir(parents=True)
    (data / "manifest.json").write_text("{}")
    (data / "interactions.parquet").write_text("licensed data")
    card = json.loads((folder / "run.json").read_text())
    card["artifacts"]["dataset"] = {"path": str(data), "hash": "abc"}
    (folder / "run.json").write_text(json.dumps(card))
    return folder


def test_one_run_for_each_folder_in_the_group_of_its_sweep(tmp_path: Path) -> None:
    exp = in_sweep(compose([*RECORDED, "lora.rank=4", "fusion=linear"])[0], "rank")
    folder = tmp_path / "synthetic-tiny-linear-0123-seed0"
    made = []
    for _ in range(2):  # opened again after a resume, or by the process that scores what others trained
        logger = build_logger(exp, folder)
        made.append(Recorder.made)
    assert made[0]["id"] == made[1]["id"] == made[0]["name"] == folder.name
    assert (made[0]["project"], made[0]["group"], made[0]["job_type"]) == ("ckf", "rank", "train")
    assert {"dataset:synthetic", "fusion:linear", "lora:multi"} <= set(made[0]["tags"])
    (config,) = logger.of("config")
    assert config["lora.rank"] == 4
    assert not any(isinstance(value, dict) for value in config.values())
    assert not any(key.startswith(("paths", "launcher")) for key in config)


def test_a_group_of_ones_own_stays() -> None:
    assert in_sweep(compose(["logger.group=mine"])[0], "rank").logger.group == "mine"  # type: ignore[attr-defined]


def test_results_panels_and_lineage_are_sent(run: Path) -> None:
    logger = Recorder()
    mirror_run(logger, run)  # type: ignore[arg-type]
    assert logger.summary["test/ctr/auc"] == 0.61234
    assert logger.summary["cost/train_seconds"] == 3.5
    (panels,) = logger.of("log")
    assert set(panels) == {"predictions/test", "panels/reliability", "panels/diagnostics"}
    assert len(panels["predictions/test"].data) == 40, "this model's rows alone"
    assert {row[0] for row in panels["panels/reliability"].data} == {"this model", "bias"}
    (used,), (made,) = logger.of("use"), logger.of("made")
    assert (used.type, used.name, used.metadata["hash"]) == ("dataset", "synthetic-abc", "abc")
    assert set(used.manifest.entries) == {"manifest.json"}, "never the data itself"
    assert made.type == "adapters"
    assert "adapters/shared/adapter_config.json" in made.manifest.entries
    assert made.metadata["inputs"] == {"dataset": "synthetic-abc"}


def wait_for(said: bytes, path: Path, seconds: float = 60) -> bool:
    """Whether it comes to be in the file: W&B's own process may write it after the run was finished here."""
    end = time.monotonic() + seconds
    while said not in path.read_bytes() and time.monotonic() < end:
        time.sleep(0.2)
    return said in path.read_bytes()


def test_an_offline_run_leaves_one_folder_that_sync_can_send(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    exp = compose(["logger.mode=offline"])[0]
    logger = build_logger(exp, run)
    logger.log_metrics({"train/loss": 2.5}, step=1)
    mirror_run(logger, run)
    finish(logger)
    (left,) = (run / "wandb").glob("offline-run-*")
    assert left.name.endswith(run.name[-100:])
    written = left / f"run-{run.name}.wandb"
    for said in (b"train/loss", b"test/ctr/auc", b"lora.rank", b"fusion:meta"):
        assert wait_for(said, written), said
    tables = sorted(path.name.split("_")[0] for path in (left / "files/media/table").rglob("*.json"))
    assert len(tables) >= 3


def test_a_secret_never_reaches_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    with pytest.raises(ConfigError) as caught:
        compose(["logger.project=x-hf_0123456789abcdef"])
    (line,) = str(caught.value).splitlines()
    assert line == (
        "logger.project: holds the value of HF_TOKEN; secrets are read from the environment, never from a config"
    )
    with pytest.raises(ConfigError, match=r"backbone.path: holds a user and password"):
        compose(["backbone=hf", "backbone.path='https://me:pass@hub.example/model'"])


class FakeReports:
    """W&B's report API as far as the dashboard uses it: every class makes its name and arguments."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: (name, arguments, named)


def test_the_dashboard_has_the_table_and_panels_of_the_group(tmp_path: Path) -> None:
    from ckf.config.schema import WandbConfig
    from ckf.sweep import load_sweep

    path = Path(__file__).parents[3] / "experiments/fusion/small.yaml"
    made = dashboard.blocks(FakeReports(), path, load_sweep(path), WandbConfig())
    kinds = [block[0] for block in made]
    assert kinds == ["H1", "P", "MarkdownBlock", "PanelGrid"]
    assert "fusion=meta" in made[2][1][0]
    grid = made[3][2]
    assert grid["runsets"][0][2]["filters"] == 'Metric("group") == "fusion-small"'
    panels = [panel[0] for panel in grid["panels"]]
    assert panels[0] == "ParallelCoordinatesPlot"
    assert panels.count("BarPlot") == len(load_sweep(path).metrics)


def test_without_a_login_the_dashboard_says_how(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    path = Path(__file__).parents[3] / "experiments/fusion"
    assert dashboard.main([str(path)]) == 1
    assert "pip install wandb-workspaces, then `wandb login`" in capsys.readouterr().err
    with pytest.raises(CkfError):
        dashboard.write_report(path / "sweep.yaml")
