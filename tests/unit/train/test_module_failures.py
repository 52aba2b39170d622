"""What stops a step: a loss or gradient that is not finite, no memory. One line says where and what to do."""

from __future__ import annotations

import pytest
import torch

from ckf.core.errors import CkfError
from ckf.train.curriculum import Curriculum
from tests.unit.train.test_curriculum import module_of, step_batch

CURRICULUM = Curriculum("sigmoid", 10)


def test_a_loss_that_is_not_a_number_names_its_examples_and_the_largest_gradient(model, collator, mixed):
    """One user's vector is broken: the examples that read it are named, and no others."""
    batch = step_batch(collator, mixed, CURRICULUM, 3)
    batch.prompts[True][0].slots.users[2] = float("nan")
    with pytest.raises(CkfError) as caught:
        module_of(model, CURRICULUM).accumulate(batch)
    line = str(caught.value)
    assert line.startswith(
        f"step 3: the loss is nan (examples: {mixed[2].example_id}); the largest gradient is nan, of "
    )
    assert line.endswith("; lower train.learning_rate or train.fusion_learning_rate")


def test_a_gradient_that_is_not_finite_stops_before_the_optimizer(model, collator, mixed):
    module = module_of(model, CURRICULUM)
    module.accumulate(step_batch(collator, mixed, CURRICULUM, 3))
    name, layer = next(iter(model.layers.items()))
    layer.lora_a.grad[0, 0] = float("inf")
    with pytest.raises(CkfError, match=r"step 0: the largest gradient is inf, of backbone\..*lora_a \(examples: ctr/"):
        module.gradient_norms()
    assert name in str(dict(model.named_parameters()).keys())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "python"],
)
def test_no_memory_is_one_line_with_what_to_lower(model, collator, mixed, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(type(model), "forward", fail)
    with pytest.raises(CkfError) as caught:
        module_of(model, CURRICULUM).accumulate(step_batch(collator, mixed, CURRICULUM, 3))
    line = str(caught.value)
    assert line.startswith("step 3: out of memory with 8 examples at a time")
    assert "raise train.accumulation_steps" in line


def test_another_error_stays_itself(model, collator, mixed, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(type(model), "forward", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        module_of(model, CURRICULUM).accumulate(step_batch(collator, mixed, CURRICULUM, 3))
