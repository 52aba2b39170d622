"""The example of docs/own-task.md: a task outside the package goes through prepare, training, evaluation and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ckf.cli.main import main
from ckf.config.compose import compose
from ckf.core.errors import ConfigError
from ckf.tasks import load_task
from tests.integration.conftest import run_small

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
OPINION = "{name: opinion, target: sentiment.Sentiment}"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_the_example_is_shown_whole() -> None:
    text = (EXAMPLES / "sentiment.py").read_text(encoding="utf-8")
    assert text.strip() in (EXAMPLES.parent / "own-task.md").read_text(encoding="utf-8")


def test_it_is_chosen_by_its_target_under_a_name_of_its_own() -> None:
    exp, _ = compose([f"tasks=[{OPINION}]"])
    task = exp.task_set["opinion"]
    assert (type(task).__name__, task.name) == ("Sentiment", "opinion")
    assert task.find_metric("distance@warm_3").direction == "lower"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{name: mood, target: sentiment.Mood}", "target: 'sentiment.Mood' cannot be imported"),
        ("{name: mood, target: nowhere.Mood}", "is its folder on PYTHONPATH?"),
        ("{name: mood, target: pathlib.Path}", "is no subclass of ckf.tasks.base.Task"),
        ("{name: mood, target: Mood}", "is not a class with its module"),
        ("{name: ctr, target: sentiment.Sentiment}", "'ctr' is a built-in task"),
        ("{name: separator, target: sentiment.Sentiment}", "'separator' cannot name a task"),
    ],
)
def test_what_is_no_task_is_refused(entry: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([f"tasks=[{entry}]"])
    assert problem in str(caught.value)


def test_a_dataset_without_what_it_needs_is_refused() -> None:
    with pytest.raises(ConfigError, match="opinion, but dataset=synthetic provides ctr"):
        compose([f"tasks=[{OPINION}]", "dataset.supported_tasks=[ctr]"])


def test_the_worst_score_is_the_far_end_of_its_own_scale() -> None:
    task = load_task("opinion", "sentiment.Sentiment")
    assert task.worst_scores(np.asarray([0.0, 2.0, 1.0]), np.asarray([np.nan, np.nan, 0.7])).tolist() == [2.0, 0.0, 0.7]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        return run_small(tmp_path_factory.mktemp("own"), f"tasks=[{{name: ctr}}, {OPINION}]")


def test_the_main_job_trains_and_measures_it(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["test/opinion/accuracy"] <= 1
    assert metrics["test/opinion/accuracy_low"] <= metrics["test/opinion/accuracy"]
    assert metrics["test/opinion/n"] > 0
    assert "text/test/opinion/accuracy" in metrics
    rows = pd.read_parquet(run / "predictions/test.parquet").query("task == 'opinion' and source == 'model'")
    assert set(rows["answer"]) <= {"bad", "mixed", "good"}
    assert set(rows["label"]) <= {0.0, 1.0, 2.0}
    right = rows["answer"] == rows["label"].map({0.0: "bad", 1.0: "mixed", 2.0: "good"})
    assert metrics["test/opinion/accuracy"] == pytest.approx(right.mean())


def test_the_report_has_its_table(run: Path) -> None:
    text = (run / "report.md").read_text()
    assert "opinion (test)" in text
    assert "distance" in text


def test_it_is_evaluated_and_reported_once_more(run: Path, tmp_path: Path) -> None:
    assert main(["evaluate", f"run={run}", f"out={tmp_path / 'again'}"]) == 0
    again = json.loads((tmp_path / "again/metrics.json").read_text())
    assert again["test/opinion/accuracy"] == json.loads((run / "metrics.json").read_text())["test/opinion/accuracy"]
    assert main(["report", f"runs={run}", f"out={tmp_path / 'page'}"]) == 0
    assert "opinion (test)" in (tmp_path / "page/report.md").read_text()
