"""Lightning's trainer: a GPU that is not there is refused first, and a short run logs its last step."""

from __future__ import annotations

import pytest
import torch

from ckf.config.compose import compose
from ckf.core.errors import ConfigError
from ckf.pipeline import run as pipeline
from ckf.train.trainer import build_trainer


@pytest.mark.parametrize("trainer", ["gpu", "ddp"])
def test_a_gpu_that_is_not_there_is_refused_before_any_data_is_read(monkeypatch, tmp_path, trainer):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    exp = compose([f"trainer={trainer}", f"paths.cache={tmp_path / 'cache'}", f"paths.outputs={tmp_path / 'out'}"])[0]
    with pytest.raises(ConfigError, match=r"^trainer\.accelerator: gpu, but torch \S+ finds none here; use trainer=cp"):
        pipeline.run(exp)
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("steps", "every"), [(3, 3), (50, 10)])
def test_a_run_shorter_than_the_logging_interval_logs_its_last_step(tmp_path, steps, every):
    exp = compose(["train.log_every_steps=10"])[0]
    assert build_trainer(exp, tmp_path, steps, 0, None, []).log_every_n_steps == every
