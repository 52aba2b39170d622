"""Rules across config groups about adapters and backbones, one line for each fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ckf.config.schema import EAGER_ONLY, FAMILIES, ExperimentConfig, HFBackboneConfig
from ckf.core.checkpoint_folder import checkpoint_problem
from ckf.core.errors import Problem

SHARED = "shared"


def lora_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    """Every role that ``lora.tasks`` and ``lora.init`` name must be one that this run has."""
    tasks = [task.name for task in exp.task_mix]
    for index, entry in enumerate(exp.lora.tasks):
        key = f"lora.tasks[{index}].name"
        if exp.lora.per_task is None:
            yield Problem(
                key, f"{entry.name}, but lora={exp.lora.name} has no adapters of single tasks; use lora=multi"
            )
        elif entry.name not in tasks:
            yield Problem(key, f"{entry.name} is not a task of this run ({', '.join(tasks)})", also=("tasks.mixture",))
    roles = [SHARED] * (exp.lora.shared is not None) + tasks * (exp.lora.per_task is not None)
    for index, init in enumerate(exp.lora.init):
        if init.role not in roles:
            allowed = ", ".join(roles) or f"lora={exp.lora.name} has none"
            yield Problem(f"lora.init[{index}].role", f"'{init.role}' is not an adapter of this run ({allowed})")


def backbone_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    """Quantised weights need a GPU; a local folder's config is checked early."""
    backbone = exp.backbone
    if not isinstance(backbone, HFBackboneConfig):
        return
    if backbone.quantization != "none" and exp.trainer.accelerator == "cpu":
        yield (
            Problem(
                "backbone.quantization",
                f"{backbone.quantization} needs a GPU, but trainer.accelerator is cpu; "
                "use trainer=gpu, or backbone.quantization=none",
                also=("trainer.accelerator",),
            )
        )
    if backbone.quantization != "none" and exp.trainer.strategy == "fsdp":
        yield (
            Problem(
                "backbone.quantization",
                f"{backbone.quantization} weights cannot be cut over processes; "
                "use trainer=ddp, or backbone.quantization=none",
                also=("trainer.strategy",),
            )
        )
    family = _family(Path(backbone.path))
    if family is not None and family not in FAMILIES:
        yield (
            Problem(
                "backbone.path",
                f"'{backbone.path}' is of family '{family}', which is not supported; supported: {', '.join(FAMILIES)}",
            )
        )
    if family in EAGER_ONLY and backbone.attention == "sdpa":
        yield (
            Problem(
                "backbone.attention",
                f"sdpa, but family '{family}' caps its attention scores, which sdpa cannot; "
                "use backbone.attention=eager",
            )
        )


def backbone_file_problems(exp: ExperimentConfig) -> Iterator[Problem]:
    """A local backbone must be there and whole. New runs alone are checked: a finished one is read without it."""
    if isinstance(exp.backbone, HFBackboneConfig) and (
        problem := checkpoint_problem(exp.backbone.path, tokenizer=True)
    ):
        yield Problem("backbone.path", problem)


def _family(folder: Path) -> str | None:
    """``model_type`` of a local checkpoint; None for a hub name, or where loading will say what is wrong."""
    try:
        model_config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    family = model_config.get("model_type") if isinstance(model_config, dict) else None
    return family if isinstance(family, str) else None
