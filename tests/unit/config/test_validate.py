"""Refused configs: every fault, all at once, one clear line each."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from ckf.cli.main import main
from ckf.config.compose import compose, compose_with_notes
from ckf.config.overrides import key_types
from ckf.core.errors import ConfigError, Problem

SNAPSHOT = Path(__file__).with_name("problems.txt")
"""The wording of every case below: ``python -m tests.unit.config.test_validate`` writes it."""


@functools.cache
def problems(*overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        compose(list(overrides))
    return tuple(caught.value.problems)


def problem_keys(*overrides: str) -> list[str]:
    return [problem.key for problem in problems(*overrides)]


def keys(cfg: DictConfig) -> list[str]:
    cls = OmegaConf.get_type(cfg)
    assert cls is not None
    return sorted(key_types(cls, cfg))


@pytest.mark.parametrize("options", [[], ["dataset=collm_ml1m", "backbone=hf", "fusion=linear", "logger=csv"]])
def test_a_typo_in_any_key_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _, cfg, _, _ = compose_with_notes(options, fill_missing=True)
    known = keys(cfg)
    assert len(known) > 90
    wrong = [f"{key}x" for key in known]
    assert main([*options, *(f"{key}=1" for key in wrong)]) == 2
    lines = capsys.readouterr().err.splitlines()
    for key in wrong:
        assert sum(line.startswith(f"ckf: {key}: unknown key; did you mean '") for line in lines) == 1


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_a_plus_does_not_smuggle_a_key_in(prefix: str) -> None:
    assert problem_keys(f"{prefix}lora.rnak=3") == ["lora.rnak"]


ALL_AT_ONCE = (
    "fusion=nnoe",
    "cf=mff",
    "lora.rnak=3",
    "lora.rank=big",
    "train.max_steps=0",
    "seed=-1",
    "~split",
    "tasks=[{nmae: ctr}, 5]",
    "datset=synthetic",
    "tasks.candidates=900",
    "fusoin=none",
    "rank=4",
)


def test_all_problems_at_once() -> None:
    assert problem_keys(*ALL_AT_ONCE) == [
        "fusion",
        "cf",
        "~split",
        "lora.rnak",
        "lora.rank",
        "tasks.mixture[0].nmae",
        "tasks.mixture[1]",
        "datset",
        "fusoin",
        "rank",
        "train.max_steps",
        "seed",
        "tasks.candidates",
    ]


WRONG_VALUES = [
    ("lora.rank=big", "lora.rank"),
    ("lora.rank=2.5", "lora.rank"),
    ("lora.rank=null", "lora.rank"),
    ("train.max_steps=none", "train.max_steps"),
    ("train.learning_rate=fast", "train.learning_rate"),
    ("train.learning_rate=nan", "train.learning_rate"),
    ("overwrite=maybe", "overwrite"),
    ("evaluate.splits=test", "evaluate.splits"),
    ("evaluate.splits=[[test]]", "evaluate.splits[0]"),
    ("lora.shared={rank: [1]}", "lora.shared.rank"),
    ("paths=out", "paths"),
    ("tasks.mixture=ctr", "tasks.mixture"),
    ("tasks=[{weight: 2}]", "tasks.mixture[0].name"),
    ("tasks=[clicks]", "tasks.mixture[0].name"),
    ("tasks=[{name: ctr, weight: 0}]", "tasks.mixture[0].weight"),
    ("dataset=collm_ml1m", "dataset.root"),
    ("backbone=hf", "backbone.path"),
    ("fusion=a,b", "fusion=a,b"),
    ("fusion=null", "fusion"),
    ("fusion=_schema_meta", "fusion"),
    ("dataset.root=x", "dataset.root"),
    ("hydra.run.dir=x", "hydra.run.dir"),
    ("name=${sed}", "name"),
    ("fusion.name=linear", "fusion.name"),
    ("name=(", "name=("),
    ("=3", "=3"),
    ("seed=???", "seed"),
    ("seed=${name}", "seed"),
    ("trainer._target_=lightnig.Trainer", "trainer._target_"),
    ("logger._target_=csv", "logger._target_"),
    ("prompts.ctr.text='{histroy} {candidate}'", "prompts.ctr.text"),
    ("prompts.ctr.text='{candidate} {item_code}'", "prompts.ctr.text"),
    ('prompts.ctr.slots="{candidate} <usr> <user>"', "prompts.ctr.slots"),
    ('prompts.ctr.slots="{<pair>candidate} <user>"', "prompts.ctr.slots"),
    ("curriculum.steepness=0", "curriculum.steepness"),
    ("fusion.item_projection=own", "fusion.item_projection"),
]


@pytest.mark.parametrize(("override", "key"), WRONG_VALUES)
def test_one_wrong_value_is_one_problem(override: str, key: str) -> None:
    assert problem_keys(override) == [key]


IMPOSSIBLE = [
    (["fusion=meta", "cf=bias"], ["fusion=meta"]),
    (["fusion=meta", "backbone=none"], ["fusion=meta"]),
    (["curriculum=text_only"], ["fusion=meta"]),
    (["fusion=none", "curriculum=sigmoid"], ["curriculum=sigmoid"]),
    (["fusion=none", "curriculum=joint"], ["curriculum=joint"]),
    (["fusion=linear", "prompts=soft_prompt"], ["prompts.ctr.slots"]),
    (["fusion=linear", "prompts=text_codes", "tasks=[ctr]"], ["prompts.ctr.slots"]),
    (["fusion=soft_prompt", "prompts=slots_late", "tasks=[ctr]"], ["prompts.ctr.slots"]),
    (["fusion=binary", "prompts=slots_late", "tasks=[ctr]"], ["prompts.ctr.slots"]),
    (["tasks=[ctr]", 'prompts.ctr.slots="{history} {candidate}<item>"'], ["prompts.ctr.slots"]),
    (["tasks=[ctr]", 'prompts.ctr.slots="{history} {candidate}<user><soft>"'], ["prompts.ctr.slots"]),
    (["fusion=binary", "curriculum=sigmoid"], ["fusion=binary"]),
    (["curriculum=two_stage", "curriculum.second_stage=adapters"], ["fusion=meta"]),
    (["fusion=binary", "lora=none"], ["lora=none"]),
    (["fusion=none", "curriculum=none"], ["lora=multi"]),
    (["fusion=soft_prompt", "fusion.item_projection=personal"], ["fusion.item_projection"]),
    (["fusion=binary", "fusion.bits=12"], ["fusion.bits"]),
    (["lora=none"], ["lora=none"]),
    (["lora=none", "fusion=none"], ["lora=none"]),
    (["backbone=none", "lora=multi"], ["lora=multi"]),
    (["split=provided"], ["split=provided"]),
    (["dataset=collm_ml1m", "dataset.root=x", "split=temporal"], ["split=temporal"]),
    (["dataset=collm_ml1m", "dataset.root=x", "tasks=[ctr,rating]"], ["tasks.mixture[1].name"]),
    (["dataset.supported_tasks=[]"], ["tasks.mixture"]),
    (["dataset=implicit", "dataset.root=x", "tasks=ctr"], ["tasks.mixture[0].name"]),
    (["dataset=csv", "dataset.root=x", "dataset.columns.rating=null"], ["dataset.supported_tasks"]),
    (["dataset=csv", "dataset.root=x", "dataset.columns.timestamp=null"], ["split=temporal"]),
    (["dataset=csv", "dataset.root=x", "dataset.like_threshold=6"], ["dataset.like_threshold"]),
    (
        ["method=cf_only", "cf=pretrained", "cf.users=u.npy", "cf.items=i.npy", "cf.scores=dot", "tasks=rating"],
        ["backbone=none"],
    ),
    (["dataset.supported_tasks=[ctr,top]"], ["dataset.supported_tasks[1]"]),
    (["trainer=ddp_cpu", "train.accumulation_steps=3"], ["train.global_batch_size"]),
    (["tasks.candidates=301"], ["tasks.candidates"]),
    (["method=ckf_plus", "fusion=binary", "prompts=text_codes"], ["cf.out_of_fold"]),
    (["train.global_batch_size=3"], ["train.global_batch_size"]),
]


@pytest.mark.parametrize(("overrides", "keys"), IMPOSSIBLE, ids=lambda value: " ".join(value[:2]))
def test_impossible_pair(overrides: list[str], keys: list[str]) -> None:
    assert problem_keys(*overrides) == keys


def wording() -> str:
    cases = [
        ALL_AT_ONCE,
        *([override] for override, _ in WRONG_VALUES),
        *(overrides for overrides, _ in IMPOSSIBLE),
        ASKED,
    ]
    shown = ("\n".join([f"$ ckf {' '.join(case)}", *map(str, problems(*case))]) for case in cases)
    return "\n\n".join(shown) + "\n"


def test_the_wording_of_every_problem() -> None:
    assert wording() == SNAPSHOT.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "overrides",
    [
        ["lora=none", "curriculum=joint"],
        ["tasks=[ctr]", "tasks.candidates=301"],
        ["tasks=[ctr]", "train.global_batch_size=1"],
        ["trainer=ddp_cpu", "train.accumulation_steps=2"],
        ["lora=none", "lora.shared.rank=2", "lora.shared.target_modules=[q_proj]"],
    ],
)
def test_possible_pair(overrides: list[str]) -> None:
    compose(overrides)


@pytest.mark.parametrize(
    ("key", "concerned"),
    [("fusion", True), ("cf", True), ("cf.dim", True), ("cf.dim.x", False), ("fus", False), ("lora", False)],
)
def test_which_keys_a_problem_concerns(key: str, concerned: bool) -> None:
    assert Problem("fusion=meta", "what is wrong", also=("cf.dim",)).concerns(key) == concerned


def test_a_refused_choice_is_not_judged_by_what_stands_in_for_it() -> None:
    assert len(problems("fusion=nnoe", "curriculum=text_only")) == 1
    assert len(problems("train.global_batch_size=many", "trainer=ddp_cpu", "trainer.devices=3")) == 1


# --- what is accepted -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "mix"),
    [
        ("tasks=[ctr,topk]", [("ctr", 1.0), ("topk", 1.0)]),
        ("tasks=[{name: ctr, weight: 2}, {name: topk, weight: 1}]", [("ctr", 2.0), ("topk", 1.0)]),
        ("tasks=[ctr,{name: topk, weight: 3}]", [("ctr", 1.0), ("topk", 3.0)]),
        ("tasks.mixture=[rating]", [("rating", 1.0)]),
        ("tasks={mixture: [rating]}", [("rating", 1.0)]),
        ("tasks=explain", [("explain", 1.0)]),
        ("tasks=auto", [("ctr", 1.0), ("rating", 1.0), ("topk", 1.0), ("explain", 1.0)]),
    ],
)
def test_tasks(override: str, mix: list[tuple[str, float]]) -> None:
    exp, _ = compose([override])
    assert [(task.name, task.weight) for task in exp.task_mix] == mix


@pytest.mark.parametrize(
    ("overrides", "notes", "curriculum"),
    [
        (["fusion=none"], ["fusion=none: curriculum=text_only, there is nothing to fuse"], "text_only"),
        (
            ["backbone=none"],
            ["backbone=none: lora=none fusion=none curriculum=text_only, there is no language model to adapt"],
            "text_only",
        ),
        (["fusion=none", "curriculum=text_only"], [], "text_only"),
        (["method=tallrec"], [], "text_only"),
        (["method=zero_shot"], [], "none"),
        (["method=binllm"], [], "two_stage"),
        (
            ["fusion=binary"],
            ["fusion=binary: prompts=text_codes curriculum=joint, adapters must learn to read the codes"],
            "joint",
        ),
        (
            ["fusion=soft_prompt"],
            ["fusion=soft_prompt: prompts=soft_prompt, free vectors have a slot of their own"],
            "sigmoid",
        ),
        ([], [], "sigmoid"),
    ],
)
def test_implied_choices(overrides: list[str], notes: list[str], curriculum: str) -> None:
    composed = compose_with_notes(overrides)
    assert composed.notes == notes
    assert composed.exp.curriculum.name == curriculum


def test_a_later_override_wins() -> None:
    exp, _ = compose(["seed=1", "fusion=meta", "seed=2", "fusion=linear"])
    assert (exp.seed, exp.fusion.name) == (2, "linear")


ASKED = ("method=ckf_plus", "evaluate.length_normalisation=mean")


def test_a_yes_has_no_length_to_divide_by() -> None:
    assert problem_keys(*ASKED) == ["evaluate.length_normalisation"]
    compose(["method=ckf_plus", "fusion=none", "evaluate.length_normalisation=mean"])


if __name__ == "__main__":
    SNAPSHOT.write_text(wording(), encoding="utf-8")
