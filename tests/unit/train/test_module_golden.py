"""Golden losses of every fusion, task mix and curriculum with their options, on a random Llama.

They guard against silent change of the arithmetic. After a change that is meant, write them anew:
``python -m tests.unit.train.test_module_golden`` (and say so in the commit). Families: `test_golden_families`.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from ckf.config.registry import SCHEMAS
from tests.conftest import make_model
from tests.unit.train.golden import Case, case_name, checker, losses, read, write

FILE = Path(__file__).with_name("golden_losses.json")
CASES: list[
    Case
] = [  # fusion, slots, tasks, curriculum: each fusion with curricula it may meet, task mixes and options in turn
    ("none", "late", "all", "text_only", {}, {}),
    ("none", "late", "ctr", "text_only", {}, {}),
    ("linear", "late", "all", "sigmoid", {}, {}),
    ("linear", "pair", "ctr", "two_stage", {}, {}),
    ("linear", "pair", "topk", "joint", {"tokens_per_slot": 2}, {}),
    ("mlp", "late", "rating", "joint", {}, {}),
    ("mlp", "pair", "all", "two_stage", {}, {"second_stage": "both"}),
    ("mlp", "late", "ctr", "sigmoid", {"item_projection": "personal"}, {"schedule_target": "lr"}),
    ("meta", "late", "ctr", "sigmoid", {}, {}),
    ("meta", "pair", "topk", "two_stage", {"item_projection": "personal"}, {}),
    ("meta", "late", "all", "joint", {"match_embedding_norm": False}, {}),
    ("meta_attention", "pair", "all", "joint", {}, {}),
    ("meta_attention", "late", "rating", "sigmoid", {}, {"schedule_target": "lr"}),
    ("meta_attention", "pair", "ctr", "two_stage", {"item_projection": "personal"}, {"first_fraction": 0.3}),
    ("random", "pair", "rating", "sigmoid", {"map": "meta_attention"}, {}),
    ("random", "late", "all", "joint", {}, {}),
    ("random", "late", "topk", "two_stage", {"map": "mlp"}, {}),
    ("soft_prompt", "soft", "all", "joint", {"tokens_per_slot": 4}, {}),
    ("soft_prompt", "soft", "ctr", "sigmoid", {"tokens_per_slot": 4}, {}),
    ("binary", "codes", "all", "joint", {}, {}),
    ("binary", "codes", "ctr", "two_stage", {}, {"second_stage": "adapters"}),
]


@pytest.fixture
def check():
    return checker(FILE)


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_golden_losses(backbone_folder, encoder, prompts, tables, case, check):
    build = functools.partial(make_model, backbone_folder)
    check(case_name(case), losses(build, encoder, prompts, tables, case))


@pytest.mark.parametrize("case", [case for case in CASES if case[3] == "sigmoid"], ids=case_name)
def test_golden_losses_hold_with_a_shared_prefix(backbone_folder, encoder, prompts, tables, case):
    build = functools.partial(make_model, backbone_folder)
    found = losses(build, encoder, prompts, tables, case, shared=True)
    assert found == pytest.approx(read(FILE)[case_name(case)], rel=1e-5)


def test_every_golden_case_is_kept_and_every_fusion_has_one():
    assert set(read(FILE)) == {case_name(case) for case in CASES}
    assert {case[0] for case in CASES} == set(SCHEMAS["fusion"]) - {"custom"}
    assert {case[3] for case in CASES} == set(SCHEMAS["curriculum"]) - {"none"}


if __name__ == "__main__":
    sys.exit(write(__file__, FILE))
