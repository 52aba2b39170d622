"""Golden losses: 20 steps from fixed weights, and the file that keeps them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ckf.config.registry import SCHEMAS
from ckf.config.schema import TrainConfig
from ckf.model.recommender import Recommender
from ckf.prompts.binary_codes import HashedCodes
from ckf.prompts.collate import Collators
from ckf.prompts.encode import PromptEncoder
from ckf.train.batching.batches import StepBatch
from ckf.train.curriculum import build_curriculum
from ckf.train.module import FineTuning
from tests.conftest import TASKS, TITLES, make_example

STEPS = 20
SLOTS = {"late": "<user><item>", "pair": "<user><item><pair>", "soft": "<soft>", "codes": " {user_code} {item_code}"}
Case = tuple[str, str, str, str, dict[str, Any], dict[str, Any]]
"""Fusion, kinds of slots, tasks, curriculum, options of the fusion and of the curriculum."""


def case_name(case: Case) -> str:
    return " ".join([*case[:4], *(f"{k}={v}" for part in case[4:] for k, v in part.items())])


class Bare(FineTuning):
    """The module without a trainer; its step is set by hand."""

    now = 0

    @property
    def global_step(self) -> int:
        return self.now


def losses(
    build: Callable[..., Recommender],
    encoder: PromptEncoder,
    prompts: Any,
    tables: Any,
    case: Case,
    *,
    shared: bool = False,
) -> list[float]:
    """Losses of the first steps of a case, from fixed weights, examples and order.

    ``build(tables, fusion, fusion_options=…)`` makes the model; ``shared``: one prefix for both streams.
    """
    kind, wording, mix, curriculum, fusion_options, curriculum_options = case
    names = TASKS if mix == "all" else [mix]
    worded = {
        t: dataclasses.replace(getattr(prompts, t), slots=getattr(prompts, t).text + SLOTS[wording]) for t in names
    }
    own = PromptEncoder(
        encoder.tokenizer,
        dataclasses.replace(prompts, **worded),
        TITLES,
        encoder.rating_labels,
        tokens_per_slot=fusion_options.get("tokens_per_slot", 1),
    )
    codes = HashedCodes(tables, bits=16, dotted=True, seed=0) if kind == "binary" else None
    collator = Collators(own, TASKS, tables.shuffled(0) if kind == "random" else tables, codes)
    slots = ("user", "item", "pair") if wording == "pair" else ("user", "item")
    model = build(collator.tables, kind, fusion_options={"slots": slots, **fusion_options})
    plan = build_curriculum(SCHEMAS["curriculum"][curriculum](name=curriculum, **curriculum_options), STEPS)
    module = Bare(model, plan, TrainConfig(), seed=0)
    configured = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    losses = []
    for step in range(STEPS):
        examples = [make_example(names[k % len(names)], 8 * step + k) for k in range(8)]
        if shared:
            text, branch = collator.training.shared_prefix(examples, [1 / 8] * 8)
            batches = {False: [text], True: [branch]}
        else:
            batches = {s.slots: [collator.training(examples, [1 / 8] * 8, slots=s.slots)] for s in plan.streams(step)}
        module.now = step
        optimizer.zero_grad()
        losses.append(float(module.accumulate(StepBatch(step, [], batches, 0, shared))["loss"]))
        module._zero_of_all().backward()
        module.gradient_norms()
        torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
        optimizer.step()
        scheduler.step()
    return losses


def read(file: Path) -> dict[str, list[float]]:
    kept: dict[str, list[float]] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def checker(file: Path) -> Callable[[str, list[float]], None]:
    """Compare losses with those that a file keeps, to 1e-4."""
    kept = read(file)

    def check(name: str, found: list[float]) -> None:
        assert found == pytest.approx(kept[name], rel=1e-4)

    return check


class Writer:
    """A pytest plugin that runs the tests named ``test_golden_losses`` of a file and keeps what they find.

    Such a test hands its losses to the fixture ``check``, which compares; here it keeps them.
    """

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        if fixturedef.argname != "check":
            return None
        fixturedef.cached_result = (self._keep, fixturedef.cache_key(request), None)
        return self._keep

    def _keep(self, name: str, found: list[float]) -> None:
        self.found[name] = [float(f"{value:.7g}") for value in found]


def write(tests: str, file: Path) -> int:
    """Write the golden losses of a test file anew; returns pytest's exit status."""
    writer = Writer()
    status = int(pytest.main([tests, "-q", "-k", "test_golden_losses and not shared"], plugins=[writer]))
    if status == 0:
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in writer.found.items())
        file.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    return status
