"""Refused configs: every fault, all at once, one clear line each."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from ckf.cli.main import main
from ckf.config.compose import compose, compose_with_notes
from ckf.config.overrides import key_types
from ckf.core.errors import ConfigError


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose(list(overrides))
    return caught.value.problems


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
    assert problems(f"{prefix}lora.rnak=3") == ["lora.rnak: unknown key; did you mean 'lora.rank'?"]


def test_all_problems_at_once() -> None:
    assert problems(
        "fusion=nnoe", "cf=mff", "lora.rnak=3", "lora.rank=big", "train.max_steps=0", "seed=-1", "~split",
        "tasks=[{nmae: ctr}, 5]", "datset=synthetic", "tasks.candidates=900", "fusoin=none", "rank=4",
    ) == [
        "fusion: 'nnoe' is not an option; did you mean 'none'? "
        "(one of binary, custom, linear, meta, meta_attention, mlp, none, random, soft_prompt)",
        "cf: 'mff' is not an option; did you mean 'mf'? "
        "(one of bias, din, din_plus, features, itemknn, lightgcn, lightgcn_plus, mf, mf_plus, popularity, pretrained, "
        "sasrec, sasrec_plus)",
        "~split: a key cannot be deleted; set it to another value",
        "lora.rnak: unknown key; did you mean 'lora.rank'?",
        "lora.rank: 'big' is not an int",
        "tasks.mixture[0].nmae: unknown key; did you mean 'tasks.mixture[0].name'?",
        "tasks.mixture[1]: 5 is not a group of keys (name, weight, target)",
        "datset: unknown key; did you mean 'dataset'?",
        "fusoin: unknown key; did you mean 'fusion'?",
        "rank: unknown key; did you mean 'lora.rank'?",
        "train.max_steps: must be at least 1, got 0",
        "seed: must be at least 0, got -1",
        "tasks.candidates: 900, but dataset.items is 300",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("lora.rank=big", "lora.rank: 'big' is not an int"),
        ("lora.rank=2.5", "lora.rank: 2.5 is not an int"),
        ("lora.rank=null", "lora.rank: null is not an int"),
        ("train.max_steps=none", "train.max_steps: 'none' is not an int or null"),
        ("train.learning_rate=fast", "train.learning_rate: 'fast' is not a number"),
        ("train.learning_rate=nan", "train.learning_rate: must be a finite number, got nan"),
        ("overwrite=maybe", "overwrite: 'maybe' is not true or false"),
        ("evaluate.splits=test", "evaluate.splits: 'test' is not a list, e.g. [a,b]"),
        ("evaluate.splits=[[test]]", "evaluate.splits[0]: ['test'] is not a string"),
        ("lora.shared={rank: [1]}", "lora.shared.rank: [1] is not an int or null"),
        ("paths=out", "paths: 'out' is not a group of keys (cache, outputs)"),
        ("tasks.mixture=ctr", "tasks.mixture: 'ctr' is not a list, e.g. [a,b]"),
        ("tasks=[{weight: 2}]", "tasks.mixture[0].name: required, has no value"),
        ("tasks=[clicks]", "tasks.mixture[0].name: 'clicks' is not allowed; one of ctr, rating, topk, explain"),
        ("tasks=[{name: ctr, weight: 0}]", "tasks.mixture[0].weight: must be above 0, got 0 (leave a task out by not"),
        ("dataset=collm_ml1m", "dataset.root: required, has no value (e.g. dataset.root=DIR)"),
        ("backbone=hf", "backbone.path: required, has no value (e.g. backbone.path=DIR)"),
        ("fusion=a,b", "fusion=a,b: several values are a sweep; add -m"),
        ("fusion=null", "fusion: 'null' is not an option (one of "),
        ("fusion=_schema_meta", "fusion: '_schema_meta' is not an option"),
        ("dataset.root=x", "dataset.root: unknown key here; it belongs to dataset=collm_ml1m"),
        ("hydra.run.dir=x", "hydra.run.dir: Hydra's own settings are not used; see ckf --help"),
        ("name=${sed}", "name: Interpolation key 'sed' not found"),
        ("fusion.name=linear", "fusion.name: 'linear' does not fit MetaFusionConfig; choose the option fusion=linear"),
        ("name=(", "name=(: cannot be read ("),
        ("=3", "=3: cannot be read (no key before '=')"),
        ("seed=???", "seed: required, has no value"),
        ("seed=${name}", "seed: While dereferencing interpolation '${name}': Value 'main' of type 'str' could"),
        ("trainer._target_=lightnig.Trainer", "trainer._target_: 'lightnig.Trainer': no package 'lightnig' is inst"),
        ("logger._target_=csv", "logger._target_: 'csv' is not a class with its module"),
        ("prompts.ctr.text='{histroy} {candidate}'", "prompts.ctr.text: unknown placeholder {histroy}; allowed: "),
        ("prompts.ctr.text='{candidate} {item_code}'", "prompts.ctr.text: unknown placeholder {item_code}; allowed: c"),
        ('prompts.ctr.slots="{candidate} <usr> <user>"', "prompts.ctr.slots: unknown slot <usr>; allowed: <user>"),
        ('prompts.ctr.slots="{<pair>candidate} <user>"', "prompts.ctr.slots: {candidate} takes no slots inside; only"),
        ("curriculum.steepness=0", "curriculum.steepness: must be above 0, got 0"),
        ("fusion.item_projection=own", "fusion.item_projection: 'own' is not allowed; one of shared, personal"),
    ],
)  # fmt: skip
def test_one_wrong_value_is_one_line(override: str, problem: str) -> None:
    (line,) = problems(override)
    assert line.startswith(problem)


IMPOSSIBLE = [
    (["fusion=meta", "cf=bias"], "fusion=meta: cf=bias has no vectors to fuse; use cf=mf, lightgcn, sasrec, din"),
    (
        ["fusion=meta", "backbone=none"],
        "fusion=meta: backbone=none has nothing to fuse into; use backbone=tiny, hf, or fusion=none",
    ),
    (["curriculum=text_only"], "fusion=meta: curriculum=text_only has no CF stream"),
    (["fusion=none", "curriculum=sigmoid"], "curriculum=sigmoid: fusion=none makes prompts without slots"),
    (["fusion=none", "curriculum=joint"], "curriculum=joint: fusion=none makes prompts without slots"),
    (
        ["fusion=linear", "prompts=soft_prompt"],
        "prompts.ctr.slots: fusion=linear needs <user> or <item> or <pair> (rating, topk, explain too); use prompts=",
    ),
    (
        ["fusion=linear", "prompts=text_codes", "tasks=[ctr]"],
        "prompts.ctr.slots: fusion=linear needs <user> or <item> or",
    ),
    (
        ["fusion=soft_prompt", "prompts=slots_late", "tasks=[ctr]"],
        "prompts.ctr.slots: fusion=soft_prompt needs <soft>; use",
    ),
    (
        ["fusion=binary", "prompts=slots_late", "tasks=[ctr]"],
        "prompts.ctr.slots: fusion=binary needs {user_code} or {item_",
    ),
    (
        ["tasks=[ctr]", 'prompts.ctr.slots="{history} {candidate}<item>"'],
        "prompts.ctr.slots: fusion=meta needs <user>; use prompts=slots_late, slots_early, slots_pair, or mend the w",
    ),
    (
        ["tasks=[ctr]", 'prompts.ctr.slots="{history} {candidate}<user><soft>"'],
        "prompts.ctr.slots: fusion=meta does not fill <soft>; use prompts=slots_late, slots_early, slots_pair",
    ),
    (["fusion=binary", "curriculum=sigmoid"], "fusion=binary: curriculum=sigmoid lets no adapter read the codes"),
    (["curriculum=two_stage", "curriculum.second_stage=adapters"], "fusion=meta: curriculum.second_stage=adapters nev"),
    (["fusion=binary", "lora=none"], "lora=none: fusion=binary has no map, so nothing would learn; use lora=multi"),
    (["fusion=none", "curriculum=none"], "lora=multi: curriculum=none trains nothing; use lora=none"),
    (["fusion=soft_prompt", "fusion.item_projection=personal"], "fusion.item_projection: soft prompts know no items"),
    (["fusion=binary", "fusion.bits=12"], "fusion.bits: must be a multiple of 8 for code=dotted, got 12"),
    (["lora=none"], "lora=none: curriculum=sigmoid has a text stream, which would train nothing"),
    (["lora=none", "fusion=none"], "lora=none: curriculum=text_only has a text stream, which would train nothing"),
    (["backbone=none", "lora=multi"], "lora=multi: backbone=none has nothing to adapt; use lora=none"),
    (["split=provided"], "split=provided: dataset=synthetic carries no split of its own; use split=temporal"),
    (
        ["dataset=collm_ml1m", "dataset.root=x", "split=temporal"],
        "split=temporal: dataset=collm_ml1m carries its own split; use split=provided",
    ),
    (
        ["dataset=collm_ml1m", "dataset.root=x", "tasks=[ctr,rating]"],
        "tasks.mixture[1].name: rating, but dataset=collm_ml1m provides ctr, topk",
    ),
    (["dataset.supported_tasks=[]"], "tasks.mixture: is empty, and dataset=synthetic provides no task"),
    (["dataset.supported_tasks=[ctr,top]"], "dataset.supported_tasks[1]: 'top' is not a task"),
    (
        ["trainer=ddp_cpu", "train.accumulation_steps=3"],
        "train.global_batch_size: 64 cannot be divided by trainer.devices 2 * trainer.num_nodes 1 * "
        "train.accumulation_steps 3 = 6; use a multiple, e.g. 66",
    ),
    (["tasks.candidates=301"], "tasks.candidates: 301, but dataset.items is 300"),
    (
        ["method=ckf_plus", "fusion=binary", "prompts=text_codes"],
        "cf.out_of_fold: 5, but an item's code is one for all",
    ),
    (["train.global_batch_size=3"], "train.global_batch_size: 3 is fewer than the 4 tasks of a batch"),
]


@pytest.mark.parametrize(("overrides", "problem"), IMPOSSIBLE, ids=lambda value: " ".join(value[:2]))
def test_impossible_pair(overrides: list[str], problem: str) -> None:
    found = [
        line for line in problems(*overrides) if not line.startswith("dataset.supported_tasks[1]") or "top" in problem
    ]
    assert [line for line in found if line.startswith(problem)]
    assert len(found) == 1


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


def test_a_yes_has_no_length_to_divide_by() -> None:
    assert problems("method=ckf_plus", "evaluate.length_normalisation=mean") == [
        "evaluate.length_normalisation: mean, but prompts.topk asks the candidates one by one, and a Yes has no "
        "length; use none, or a wording without {candidates?}, e.g. prompts=slots_late"
    ]
    compose(["method=ckf_plus", "fusion=none", "evaluate.length_normalisation=mean"])
