"""Rules across config groups: pairs of choices that cannot work together, one line for each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

from ckf.config import schema
from ckf.config.schema import TASKS, ExperimentConfig
from ckf.config.store import SCHEMAS

OWN_SPLIT = (schema.CollmConfig,)
"""Datasets whose files carry their split."""


def _options(group: str, fits: Callable[[type], bool]) -> str:
    return ", ".join(option for option, cls in SCHEMAS[group].items() if fits(cls))


def cross_group_problems(exp: ExperimentConfig) -> Iterator[str]:
    """Yield one line for each impossible pair; it names the key, the value and what is allowed."""
    yield from _variant_problems(exp)
    yield from _target_problems(exp)
    yield from _fusion_problems(exp)
    yield from _prediction_problems(exp)
    yield from _adapter_problems(exp)
    yield from _split_problems(exp)
    yield from _task_problems(exp)
    yield from _batch_problems(exp)


def _variant_problems(exp: ExperimentConfig) -> Iterator[str]:
    """A ``name`` decides which class a saved run is read back as, so it must be the class in use."""
    for group, options in SCHEMAS.items():
        node = getattr(exp, group)
        if len(set(options.values())) == 1 or not hasattr(node, "name"):
            continue
        if node.name not in options:
            yield f"{group}.name: '{node.name}' is not allowed; one of {', '.join(options)}"
        elif type(node) is not options[node.name]:
            yield (
                f"{group}.name: '{node.name}' does not fit {type(node).__name__}; choose the option "
                f"{group}={node.name} (in a file of your own: defaults: [_schema_{node.name}, _self_])"
            )


def _target_problems(exp: ExperimentConfig) -> Iterator[str]:
    """Look whether the package of a foreign class is there; importing it would take seconds."""
    for group in ("trainer", "logger"):
        target = getattr(exp, group)._target_
        package, dot, _ = target.partition(".")
        if not dot:
            yield f"{group}._target_: '{target}' is not a class with its module, e.g. package.Class"
        elif not package or importlib.util.find_spec(package) is None:
            yield f"{group}._target_: '{target}': no package '{package}' is installed"


def _fusion_problems(exp: ExperimentConfig) -> Iterator[str]:
    fusion, curriculum = exp.fusion.name, exp.curriculum.name
    no_backbone = isinstance(exp.backbone, schema.NoBackboneConfig)
    if exp.fusion.fuses:
        if not exp.cf.has_vectors:
            usable = _options("cf", lambda cls: cls().has_vectors)
            yield f"fusion={fusion}: cf={exp.cf.name} has no vectors to fuse; use cf={usable}, or fusion=none"
        if no_backbone:
            usable = _options("backbone", lambda cls: cls is not schema.NoBackboneConfig)
            yield (f"fusion={fusion}: backbone=none has nothing to fuse into; use backbone={usable}, or fusion=none")
        elif curriculum == "text_only":
            yield (
                f"fusion={fusion}: curriculum=text_only has no CF stream, the fusion would get no gradient; "
                "use curriculum=sigmoid, joint, or fusion=none"
            )
    elif curriculum in ("sigmoid", "joint"):
        usable = _options("fusion", lambda cls: cls().fuses)
        yield (
            f"curriculum={curriculum}: fusion=none makes prompts without slots, so there is no CF stream; "
            f"use curriculum=text_only, or fusion={usable}"
        )


def _prediction_problems(exp: ExperimentConfig) -> Iterator[str]:
    if isinstance(exp.backbone, schema.NoBackboneConfig) and not exp.cf.predicts:
        yield f"backbone=none: cf={exp.cf.name} predicts nothing by itself; use cf.scores=dot, sigmoid, or a backbone"


def _adapter_problems(exp: ExperimentConfig) -> Iterator[str]:
    if isinstance(exp.backbone, schema.NoBackboneConfig):
        if exp.lora.trains:
            yield f"lora={exp.lora.name}: backbone=none has nothing to adapt; use lora=none"
    elif not exp.lora.trains and exp.curriculum.name in ("sigmoid", "text_only"):
        yield (
            f"lora={exp.lora.name}: curriculum={exp.curriculum.name} has a text stream, which would train "
            "nothing; use curriculum=joint, or lora=multi, shared"
        )


def _split_problems(exp: ExperimentConfig) -> Iterator[str]:
    dataset = exp.dataset.name
    carries = isinstance(exp.dataset, OWN_SPLIT)
    if exp.split.name == "provided" and not carries:
        others = _options("dataset", lambda cls: issubclass(cls, OWN_SPLIT))
        yield (
            f"split=provided: dataset={dataset} carries no split of its own; "
            f"use split=temporal, leave_last_out, or dataset={others}"
        )
    if exp.split.name != "provided" and carries:
        yield f"split={exp.split.name}: dataset={dataset} carries its own split; use split=provided"


def _task_problems(exp: ExperimentConfig) -> Iterator[str]:
    provides = exp.dataset.provides
    for index, task in enumerate(provides):
        if task not in TASKS:
            yield f"dataset.provides[{index}]: '{task}' is not a task; one of {', '.join(TASKS)}"
    for index, entry in enumerate(exp.tasks.mix):
        if entry.name in TASKS and entry.name not in provides:
            yield (
                f"tasks.mix[{index}].name: {entry.name}, but dataset={exp.dataset.name} provides "
                f"{', '.join(provides) or 'no task'}"
            )
    if not exp.task_mix:
        yield f"tasks.mix: is empty, and dataset={exp.dataset.name} provides no task"
    ranks = any(entry.name == "topk" for entry in exp.task_mix)
    if ranks and isinstance(exp.dataset, schema.SyntheticConfig) and exp.tasks.candidates > exp.dataset.items:
        yield f"tasks.candidates: {exp.tasks.candidates}, but dataset.items is {exp.dataset.items}"


def _batch_problems(exp: ExperimentConfig) -> Iterator[str]:
    batch, accumulation = exp.train.global_batch_size, exp.train.accumulation_steps
    trainer = exp.trainer
    share = trainer.world_size * accumulation
    if share > 0 and batch > 0 and batch % share:  # others are refused by the ranges of their own nodes
        higher = (batch // share + 1) * share
        yield (
            f"train.global_batch_size: {batch} cannot be divided by trainer.devices {trainer.devices} * "
            f"trainer.num_nodes {trainer.num_nodes} * train.accumulation_steps {accumulation} = {share}; "
            f"use a multiple, e.g. {higher}"
        )
    if 0 < batch < len(exp.task_mix):
        yield (
            f"train.global_batch_size: {batch} is fewer than the {len(exp.task_mix)} tasks of a batch; "
            f"use at least {len(exp.task_mix)}"
        )
