"""Rules across config groups: pairs of choices that cannot work together, one line for each."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator

from ckf.config import schema
from ckf.config.registry import SCHEMAS
from ckf.config.rules.model import backbone_problems, lora_problems
from ckf.config.schema import ExperimentConfig
from ckf.config.schema.validators import at_least
from ckf.core.artifact_store import to_jsonable
from ckf.core.errors import Problem
from ckf.tasks import BUILT_IN

MAY_CARRY_SPLIT = (schema.CollmConfig, schema.TabularConfig, schema.RecboleConfig)
"""Datasets whose files carry their split, or may."""


def _options(group: str, fits: Callable[[type], bool]) -> str:
    """The options of a group that fit, the first of each class (presets of one class are left out)."""
    first = {cls: option for option, cls in reversed(SCHEMAS[group].items()) if fits(cls)}
    return ", ".join(option for option, cls in SCHEMAS[group].items() if first.get(cls) == option)


def cross_group_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    """Yield one line for each impossible pair; it names the key, the value and what is allowed."""
    yield from at_least("seed", exp.seed, 0)
    yield from _secret_problems(exp)
    yield from _variant_problems(exp)
    yield from _target_problems(exp)
    yield from _fusion_problems(exp)
    yield from _prediction_problems(exp)
    yield from _adapter_problems(exp)
    yield from lora_problems(exp)
    yield from backbone_problems(exp)
    yield from _split_problems(exp)
    yield from _task_problems(exp)
    yield from _batch_problems(exp)


_SECRET_NAMES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")


def _secret_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    """A secret must not reach a config: it is written into every run, logged and shown."""
    secrets = {name: value for name, value in os.environ.items() if name.endswith(_SECRET_NAMES) and len(value) >= 8}

    def walk(node: object, key: str) -> Iterator[Problem]:
        if isinstance(node, dict):
            for name, part in node.items():
                yield from walk(part, f"{key}.{name}" if key else str(name))
        elif isinstance(node, list):
            for index, part in enumerate(node):
                yield from walk(part, f"{key}[{index}]")
        elif isinstance(node, str):
            held = [name for name, value in secrets.items() if value in node]
            if held:
                yield Problem(
                    key, f"holds the value of {held[0]}; secrets are read from the environment, never from a config"
                )
            elif re.search(r"://[^/@\s]+:[^/@\s]+@", node):
                yield Problem(
                    key, "holds a user and password (scheme://user:password@host); leave them to the environment"
                )

    yield from walk(to_jsonable(exp), "")


def _variant_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    """A ``name`` decides which class a saved run is read back as, so it must be the class in use."""
    for group, options in SCHEMAS.items():
        node = getattr(exp, group)
        if len(set(options.values())) == 1 or not hasattr(node, "name"):
            continue
        if node.name not in options:
            yield Problem(f"{group}.name", f"'{node.name}' is not allowed; one of {', '.join(options)}")
        elif type(node) is not options[node.name]:
            yield (
                Problem(
                    f"{group}.name",
                    f"'{node.name}' does not fit {type(node).__name__}; choose the option "
                    f"{group}={node.name} (in a file of your own: defaults: [_schema_{node.name}, _self_])",
                )
            )


def _target_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    """Look whether the package of a foreign class is there; importing it would take seconds."""
    for group in ("trainer", "logger"):
        target = getattr(exp, group)._target_
        package, dot, _ = target.partition(".")
        if not dot:
            yield Problem(f"{group}._target_", f"'{target}' is not a class with its module, e.g. package.Class")
        elif not package or importlib.util.find_spec(package) is None:
            yield Problem(f"{group}._target_", f"'{target}': no package '{package}' is installed")


def _fusion_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    fusion, curriculum = exp.fusion.name, exp.curriculum.name
    if not exp.fusion.fuses:
        if exp.curriculum.has_cf_stream:
            usable = _options("fusion", lambda cls: cls().fuses)
            yield (
                Problem(
                    f"curriculum={curriculum}",
                    f"fusion=none makes prompts without slots, so there is no CF stream; "
                    f"use curriculum=text_only, or fusion={usable}",
                    also=("fusion",),
                )
            )
        return
    if exp.fusion.reads_vectors and not exp.cf.has_vectors:
        usable = _options("cf", lambda cls: cls().has_vectors)
        yield Problem(
            f"fusion={fusion}",
            f"cf={exp.cf.name} has no vectors to fuse; use cf={usable}, or fusion=none",
            also=("cf",),
        )
    if isinstance(exp.backbone, schema.NoBackboneConfig):
        usable = _options("backbone", lambda cls: cls is not schema.NoBackboneConfig)
        yield Problem(
            f"fusion={fusion}",
            f"backbone=none has nothing to fuse into; use backbone={usable}, or fusion=none",
            also=("backbone",),
        )
    elif not exp.curriculum.has_cf_stream:
        usable = _options("curriculum", lambda cls: cls().has_cf_stream)
        yield (
            Problem(
                f"fusion={fusion}",
                f"curriculum={curriculum} has no CF stream, the fusion would get no gradient; "
                f"use curriculum={usable}, or fusion=none",
                also=("curriculum",),
            )
        )
    elif not exp.fusion.learns and not exp.curriculum.adapters_read_cf:
        yield (
            Problem(
                f"fusion={fusion}",
                f"curriculum={curriculum} lets no adapter read the codes, and there is no map to learn; "
                "use curriculum=joint, or two_stage with curriculum.second_stage=adapters",
                also=("curriculum.second_stage",),
            )
        )
    elif exp.fusion.learns and not exp.curriculum.fusion_learns:
        yield (
            Problem(
                f"fusion={fusion}",
                "curriculum.second_stage=adapters never trains the map; use curriculum.second_stage=fusion or both",
                also=("curriculum.second_stage",),
            )
        )
    if exp.cf.out_of_fold and not isinstance(exp.cf, schema.EmbeddingConfig):
        yield Problem(
            "cf.out_of_fold", f"{exp.cf.out_of_fold}, but the vectors of cf={exp.cf.name} are of one fit; use 0"
        )
    if exp.cf.out_of_fold and isinstance(exp.fusion, schema.BinaryFusionConfig):
        yield Problem(
            "cf.out_of_fold",
            f"{exp.cf.out_of_fold}, but an item's code is one for all examples; use 0",
            also=("fusion",),
        )
    yield from _slot_problems(exp)


def _slot_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    """Each task's slot prompt must hold what its fusion fills, and nothing that it does not."""
    mapped = {"user", "item", "pair"}
    fits: tuple[set[str], ...]
    match exp.fusion:
        case schema.SoftPromptFusionConfig():
            fits, usable = ({"soft"},), "soft_prompt"
        case schema.BinaryFusionConfig():
            fits, usable = ({"user_code", "item_code"},), "text_codes"
        case schema.MetaFusionConfig(item_projection=side) if getattr(exp.fusion, "map", "meta").startswith("meta"):
            personal = {"user"} if side == "shared" else {"user", "item"}
            fits, usable = (mapped, personal), "slots_late, slots_early, slots_pair"
        case _:
            fits, usable = (mapped,), "slots_late, slots_early, slots_pair"
    faults: dict[str, list[str]] = {}
    for task in (entry.known_task for entry in exp.task_mix):
        fault = _slot_fault(exp.prompts.of(task).slots, fits) if task else None
        if task and fault:
            faults.setdefault(fault, []).append(task.name)
    for fault, (first, *others) in faults.items():
        others_too = f" ({', '.join(others)} too)" if others else ""
        yield Problem(
            f"prompts.{first}.slots",
            f"fusion={exp.fusion.name} {fault}{others_too}; use prompts={usable}, or correct the wording",
            also=("fusion",),
        )


def _slot_fault(wording: str, fits: tuple[set[str], ...]) -> str | None:
    """What a slot prompt lacks: one of each set in ``fits`` must be there, and nothing beyond the first."""
    named: dict[str, str] = {
        **{slot: f"<{slot}>" for slot in schema.SLOTS},
        **{code: f"{{{code}}}" for code in schema.CODES},
    }
    found = {name for name, mark in named.items() if mark in wording}
    for needed in fits:
        if not found & needed:
            return f"needs {' or '.join(mark for name, mark in named.items() if name in needed)}"
    foreign = [mark for name, mark in named.items() if name in found - fits[0]]
    return f"does not fill {' or '.join(foreign)}" if foreign else None


def _prediction_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    if not isinstance(exp.backbone, schema.NoBackboneConfig):
        return
    if not exp.cf.outputs:
        yield Problem(
            "backbone=none",
            f"cf={exp.cf.name} predicts nothing by itself; use cf.scores=dot, sigmoid, or a backbone",
            also=("cf.scores",),
        )
        return
    asked = [entry.known_task for entry in exp.scored_mix if entry.known_task]
    if asked and not any(task.cf_output in exp.cf.outputs for task in asked):
        able = [task.name for task in BUILT_IN.values() if task.cf_output in exp.cf.outputs]
        yield Problem(
            "backbone=none",
            f"cf={exp.cf.name} alone has no answer to {', '.join(task.name for task in asked)}; use tasks of "
            f"{', '.join(able)}, or a backbone",
            also=("cf.scores", "tasks.mixture"),
        )


def _adapter_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    lora, curriculum = exp.lora.name, exp.curriculum.name
    if isinstance(exp.backbone, schema.NoBackboneConfig):
        if exp.lora.trains:
            yield Problem(f"lora={lora}", "backbone=none has nothing to adapt; use lora=none", also=("backbone",))
    elif exp.lora.trains and not (exp.curriculum.has_text_stream or exp.curriculum.has_cf_stream):
        yield Problem(
            f"lora={lora}",
            f"curriculum={curriculum} trains nothing; use lora=none, or curriculum=text_only",
            also=("curriculum",),
        )
    elif not exp.lora.trains and exp.curriculum.has_text_stream:
        yield (
            Problem(
                f"lora={lora}",
                f"curriculum={curriculum} has a text stream, which would train "
                "nothing; use curriculum=joint, or lora=multi, shared",
                also=("curriculum",),
            )
        )
    elif not exp.lora.trains and exp.fusion.fuses and not exp.fusion.learns:
        yield Problem(
            f"lora={lora}",
            f"fusion={exp.fusion.name} has no map, so nothing would learn; use lora=multi, shared",
            also=("fusion",),
        )


_SPLIT_KEYS: dict[type, str] = {schema.TabularConfig: "dataset.columns.split", schema.RecboleConfig: "dataset.parts"}


def carries_split(dataset: schema.DatasetConfig) -> bool:
    """Whether a dataset's files carry their split: always, or by what its config names."""
    match dataset:
        case schema.CollmConfig():
            return True
        case schema.TabularConfig():
            return dataset.columns.split is not None
        case schema.RecboleConfig():
            return bool(dataset.parts)
    return False


def _split_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    dataset, split = exp.dataset.name, exp.split.name
    carries, key = carries_split(exp.dataset), _SPLIT_KEYS.get(type(exp.dataset))
    if split == "provided" and not carries:
        if key:
            yield Problem(
                "split=provided", f"{key} names no split; set it, or use split=temporal, leave_last_out", also=(key,)
            )
            return
        others = _options("dataset", lambda cls: issubclass(cls, MAY_CARRY_SPLIT))
        yield (
            Problem(
                "split=provided",
                f"dataset={dataset} carries no split of its own; "
                f"use split=temporal, leave_last_out, or dataset={others}",
                also=("dataset",),
            )
        )
    if split != "provided" and carries:
        instead = f", or unset {key}" if key else ""
        yield Problem(
            f"split={split}",
            f"dataset={dataset} carries its own split; use split=provided{instead}",
            also=(key or "dataset",),
        )
    if split == "temporal" and not exp.dataset.timed:
        yield Problem(
            "split=temporal",
            f"dataset={dataset} has no times, only an order of each user's rows; use leave_last_out",
            also=("dataset",),
        )


def _task_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    provides = exp.dataset.supported_tasks
    listed = {name: task for name, task in BUILT_IN.items() if task.listed_by_datasets}
    for index, task in enumerate(provides):
        if task not in listed:
            yield Problem(f"dataset.supported_tasks[{index}]", f"'{task}' is not a task; one of {', '.join(listed)}")
    there = {need for name in provides if name in listed for need in listed[name].needs}
    for index, entry in enumerate(exp.tasks.mixture):
        mine = entry.known_task
        if mine is None or entry.name in provides or (not mine.listed_by_datasets and mine.needs <= there):
            continue
        yield (
            Problem(
                f"tasks.mixture[{index}].name",
                f"{entry.name}, but dataset={exp.dataset.name} provides {', '.join(provides) or 'no task'}",
                also=("dataset.supported_tasks",),
            )
        )
    if not exp.task_mix:
        yield Problem(
            "tasks.mixture",
            f"is empty, and dataset={exp.dataset.name} provides no task",
            also=("dataset.supported_tasks",),
        )
    if exp.tasks.mixture and not exp.scored_mix:
        written = ", ".join(entry.name for entry in exp.tasks.mixture)
        yield Problem(
            "tasks.mixture", f"{written} is written, not scored; list a scored task with it, e.g. {{name: explain}}"
        )
    ranks = any(entry.known_task and entry.known_task.lists for entry in exp.task_mix)
    if ranks and isinstance(exp.dataset, schema.SyntheticConfig) and exp.tasks.candidates > exp.dataset.items:
        yield Problem(
            "tasks.candidates",
            f"{exp.tasks.candidates}, but dataset.items is {exp.dataset.items}",
            also=("dataset.items",),
        )
    wording = exp.prompts.topk.slots if exp.fusion.fuses else exp.prompts.topk.text
    if exp.evaluate.length_normalisation == "mean" and "?}" in wording:
        yield (
            Problem(
                "evaluate.length_normalisation",
                "mean, but prompts.topk asks about the candidates one by one, and a Yes has no "
                "length; use none, or a wording without {candidates?}, e.g. prompts=slots_late",
                also=("prompts.topk",),
            )
        )


def _batch_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    batch, accumulation = exp.train.global_batch_size, exp.train.accumulation_steps
    trainer = exp.trainer
    share = trainer.world_size * accumulation
    if share > 0 and batch > 0 and batch % share:  # others are refused by the ranges of their own nodes
        higher = (batch // share + 1) * share
        yield (
            Problem(
                "train.global_batch_size",
                f"{batch} cannot be divided by trainer.devices {trainer.devices} * "
                f"trainer.num_nodes {trainer.num_nodes} * train.accumulation_steps {accumulation} = {share}; "
                f"use a multiple, e.g. {higher}",
                also=("trainer.devices", "trainer.num_nodes", "train.accumulation_steps"),
            )
        )
    if 0 < batch < len(exp.task_mix):
        yield (
            Problem(
                "train.global_batch_size",
                f"{batch} is fewer than the {len(exp.task_mix)} tasks of a batch; use at least {len(exp.task_mix)}",
            )
        )
