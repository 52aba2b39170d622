"""The step log of a run that was killed and continued."""

from __future__ import annotations

import json

from ckf.train.loggers import STEPS, JsonlLogger


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
