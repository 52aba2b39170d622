"""Golden losses over families of backbones: each pair of values of any two axes occurs.

The axes are family, fusion, task mix and curriculum (of those that a fusion may meet). One case of each
family is run with the fast tests. After an intended change:
``python -m tests.unit.train.test_module_golden_families``.
"""

from __future__ import annotations

import functools
import itertools
import sys
from pathlib import Path

import pytest

from ckf.config.registry import SCHEMAS
from ckf.config.schema import FAMILIES
from tests.conftest import TASKS
from tests.unit.model.families import KINDS, recommender
from tests.unit.train.golden import Case, case_name, checker, losses, read, write

FILE = Path(__file__).with_name("golden_families.json")
BACKBONES = ("llama", "mistral-window", "qwen2-window", "qwen3-window", "gemma", "gemma2", "gemma3_text")
FUSIONS = ("none", "linear", "mlp", "meta", "meta_attention", "random", "soft_prompt", "binary")
MIXES = ("all", *TASKS)
WORDING = {"none": ["late"], "soft_prompt": ["soft"], "binary": ["codes"]}
CURRICULA = {
    "none": ["text_only"],
    "soft_prompt": ["joint", "sigmoid", "two_stage"],
    "binary": ["joint", "two_stage"],
}
OPTIONS = {("binary", "two_stage"): {"second_stage": "adapters"}}


def _case(row: int, column: int) -> tuple[str, Case]:
    """The case of a family and a fusion; mixes and curricula go round at other paces."""
    fusion = FUSIONS[column]
    wordings = WORDING.get(fusion, ["late", "pair"])
    curricula = CURRICULA.get(fusion, ["sigmoid", "two_stage", "joint"])
    curriculum = curricula[(row + column) % len(curricula)]
    mix = MIXES[(row + 2 * column) % len(MIXES)]
    options = OPTIONS.get((fusion, curriculum), {})
    return BACKBONES[row], (fusion, wordings[(row + column) % len(wordings)], mix, curriculum, {}, options)


CASES = [_case(row, column) for row in range(len(BACKBONES)) for column in range(len(FUSIONS))]


def name(case: tuple[str, Case]) -> str:
    return f"{case[0]} {case_name(case[1])}"


@pytest.fixture
def check():
    return checker(FILE)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name(case), marks=() if n % (len(FUSIONS) + 1) == 4 else pytest.mark.slow)
        for n, case in enumerate(CASES)
    ],
)
def test_golden_losses(checkpoint, encoder, prompts, tables, case, check):
    kind, rest = case
    build = functools.partial(recommender, kind, checkpoint(kind))
    check(name(case), losses(lambda t, f, **o: build(t, fusion=f, **o), encoder, prompts, tables, rest))


def test_every_pair_of_values_occurs():
    assert set(read(FILE)) == {name(case) for case in CASES}
    assert {KINDS[kind][0] for kind in BACKBONES} == set(FAMILIES)
    assert set(FUSIONS) == set(SCHEMAS["fusion"]) - {"custom"}
    rows = [(kind, fusion, mix, curriculum) for kind, (fusion, _, mix, curriculum, *_) in CASES]
    for one, other in itertools.combinations(range(4), 2):
        met = {(row[one], row[other]) for row in rows}
        values = [sorted({row[axis] for row in rows}) for axis in (one, other)]
        missing = set(itertools.product(*values)) - met
        if (one, other) == (1, 3):  # what a fusion may not meet is refused when the config is composed
            allowed = {(f, c) for f in FUSIONS for c in CURRICULA.get(f, ["sigmoid", "two_stage", "joint"])}
            missing &= allowed
        assert not missing, f"axes {one} and {other}"


if __name__ == "__main__":
    sys.exit(write(__file__, FILE))
