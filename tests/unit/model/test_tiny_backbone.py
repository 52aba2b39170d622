"""Pre-training of the tiny backbone: any number of steps that the config allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from ckf.config.schema import PretrainConfig
from ckf.model.tiny_backbone import pretrain_model


@pytest.mark.parametrize("steps", [3, 4, 10])
def test_a_pretraining_of_few_steps_moves_the_weights(steps: int, backbone_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(backbone_folder)
    before = model.lm_head.weight.detach().clone()
    pretrain_model(model, np.arange(200) % 50, PretrainConfig(steps=steps, batch_size=2, length_tokens=16), seed=0)
    assert torch.isfinite(model.lm_head.weight).all()
    assert not torch.equal(model.lm_head.weight, before)
