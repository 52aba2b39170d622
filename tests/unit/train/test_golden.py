"""Golden losses: 20 steps on a random backbone, so that no change of the arithmetic goes unseen.

After a change that is meant, write them anew: ``python -m tests.unit.train.test_golden`` (and say so in the commit).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ckf.config.schema import TrainConfig
from ckf.config.store import SCHEMAS
from ckf.prompts.codes import HashedCodes
from ckf.prompts.collate import Collator
from ckf.prompts.encode import PromptEncoder
from ckf.train.curriculum import build_curriculum
from ckf.train.data import StepBatch
from ckf.train.module import FineTuning
from tests.conftest import TASKS, TITLES, make_example, make_model

FILE = Path(__file__).with_name("golden_losses.json")
STEPS = 20
SLOTS = {"late": "<user><item>", "pair": "<user><item><pair>", "soft": "<soft>", "codes": " {user_code} {item_code}"}
CASES = [  # fusion, slots, tasks, curriculum: each fusion with curricula it may meet, task mixes and options in turn
    ("none", "late", "all", "text_only", {}, {}),
    ("none", "late", "ctr", "text_only", {}, {}),
    ("linear", "late", "all", "sigmoid", {}, {}),
    ("linear", "pair", "ctr", "two_stage", {}, {}),
    ("linear", "pair", "topk", "joint", {"tokens_per_slot": 2}, {}),
    ("mlp", "late", "rating", "joint", {}, {}),
    ("mlp", "pair", "all", "two_stage", {}, {"second_stage": "both"}),
    ("mlp", "late", "ctr", "sigmoid", {"item_side": "personal"}, {"apply": "lr"}),
    ("meta", "late", "ctr", "sigmoid", {}, {}),
    ("meta", "pair", "topk", "two_stage", {"item_side": "personal"}, {}),
    ("meta", "late", "all", "joint", {"match_scale": False}, {}),
    ("meta_attention", "pair", "all", "joint", {}, {}),
    ("meta_attention", "late", "rating", "sigmoid", {}, {"apply": "lr"}),
    ("meta_attention", "pair", "ctr", "two_stage", {"item_side": "personal"}, {"first_fraction": 0.3}),
    ("random", "pair", "rating", "sigmoid", {"map": "meta_attention"}, {}),
    ("random", "late", "all", "joint", {}, {}),
    ("random", "late", "topk", "two_stage", {"map": "mlp"}, {}),
    ("soft_prompt", "soft", "all", "joint", {"tokens_per_slot": 4}, {}),
    ("soft_prompt", "soft", "ctr", "sigmoid", {"tokens_per_slot": 4}, {}),
    ("binary", "codes", "all", "joint", {}, {}),
    ("binary", "codes", "ctr", "two_stage", {}, {"second_stage": "adapters"}),
]


def name(case: tuple[Any, ...]) -> str:
    return " ".join([*case[:4], *(f"{k}={v}" for part in case[4:] for k, v in part.items())])


class Recording(FineTuning):
    """The module without a trainer: it keeps its losses."""

    now = 0

    @property
    def global_step(self) -> int:
        return self.now

    def _log(self, name: str, value: Any) -> None:
        self.__dict__.setdefault("losses", []).extend([float(value)] if name == "loss" else [])


def losses(
    folder: Path, encoder: PromptEncoder, prompts: Any, tables: Any, case: tuple[Any, ...], *, shared: bool = False
) -> list[float]:
    """Losses of the first steps of a case, from fixed weights, examples and order; ``shared``: one prefix a pair."""
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
    collator = Collator(own, TASKS, tables.shuffled(0) if kind == "random" else tables, codes)
    slots = ("user", "item", "pair") if wording == "pair" else ("user", "item")
    model = make_model(folder, collator.tables, kind, fusion_options={"slots": slots, **fusion_options})
    plan = build_curriculum(SCHEMAS["curriculum"][curriculum](name=curriculum, **curriculum_options), STEPS)
    module = Recording(model, plan, TrainConfig(), seed=0)
    configured = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for step in range(STEPS):
        examples = [make_example(names[k % len(names)], 8 * step + k) for k in range(8)]
        if shared:
            text, branch = collator.sharing(examples, [1 / 8] * 8)
            batches = {False: [text], True: [branch]}
        else:
            batches = {s.slots: [collator.training(examples, [1 / 8] * 8, slots=s.slots)] for s in plan.streams(step)}
        module.now = step
        optimizer.zero_grad()
        module.training_step(StepBatch(step, [], batches, 0, shared), 0).backward()
        module.on_before_optimizer_step(optimizer)
        torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
        optimizer.step()
        scheduler.step()
    return module.losses


@pytest.mark.parametrize("case", CASES, ids=name)
def test_golden_losses(backbone_folder, encoder, prompts, tables, case):
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    assert losses(backbone_folder, encoder, prompts, tables, case) == pytest.approx(golden[name(case)], rel=1e-4)


@pytest.mark.parametrize("case", [case for case in CASES if case[3] == "sigmoid"], ids=name)
def test_golden_losses_hold_with_a_shared_prefix(backbone_folder, encoder, prompts, tables, case):
    golden = json.loads(FILE.read_text(encoding="utf-8"))[name(case)]
    found = losses(backbone_folder, encoder, prompts, tables, case, shared=True)
    assert found == pytest.approx(golden, rel=1e-5)


def test_every_golden_case_is_kept_and_every_fusion_has_one():
    assert set(json.loads(FILE.read_text(encoding="utf-8"))) == {name(case) for case in CASES}
    assert {case[0] for case in CASES} == set(SCHEMAS["fusion"])
    assert {case[3] for case in CASES} == set(SCHEMAS["curriculum"]) - {"none"}


class Writer:
    """A pytest plugin that writes the file anew, with the fixtures of the tests."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool | None:
        if pyfuncitem.originalname != "test_golden_losses":
            return None
        arguments = {key: pyfuncitem.funcargs[key] for key in ("encoder", "prompts", "tables", "case")}
        found = losses(pyfuncitem.funcargs["backbone_folder"], **arguments)
        self.found[name(arguments["case"])] = [float(f"{value:.7g}") for value in found]
        return True


if __name__ == "__main__":
    writer = Writer()
    status = pytest.main([__file__, "-q", "-k", "test_golden_losses"], plugins=[writer])
    if status == 0:
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in writer.found.items())
        FILE.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    sys.exit(status)
