"""Rules across config groups that speak of adapters and backbones, one line for each fault."""

from __future__ import annotations

from collections.abc import Iterator

from ckf.config.schema import ExperimentConfig, HFBackboneConfig

SHARED = "shared"


def lora_problems(exp: ExperimentConfig) -> Iterator[str]:
    """Every role that ``lora.tasks`` and ``lora.init`` name must be one that this run has."""
    tasks = [task.name for task in exp.task_mix]
    for index, entry in enumerate(exp.lora.tasks):
        key = f"lora.tasks[{index}].name"
        if exp.lora.per_task is None:
            yield f"{key}: {entry.name}, but lora={exp.lora.name} has no adapters of single tasks; use lora=multi"
        elif entry.name not in tasks:
            yield f"{key}: {entry.name} is not a task of this run ({', '.join(tasks)})"
    roles = [SHARED] * (exp.lora.shared is not None) + tasks * (exp.lora.per_task is not None)
    for index, init in enumerate(exp.lora.init):
        if init.role not in roles:
            allowed = ", ".join(roles) or f"lora={exp.lora.name} has none"
            yield f"lora.init[{index}].role: '{init.role}' is not an adapter of this run ({allowed})"


def backbone_problems(exp: ExperimentConfig) -> Iterator[str]:
    """Quantised weights live on a GPU."""
    backbone = exp.backbone
    if isinstance(backbone, HFBackboneConfig) and backbone.quantization != "none" and exp.trainer.accelerator == "cpu":
        yield (
            f"backbone.quantization: {backbone.quantization} needs a GPU, but trainer.accelerator is cpu; "
            "use trainer=gpu, or backbone.quantization=none"
        )
