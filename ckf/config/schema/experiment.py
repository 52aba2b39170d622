"""The whole of a run's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from ckf.config.schema.backbone import BackboneConfig
from ckf.config.schema.cf import CFConfig
from ckf.config.schema.datasets import DatasetConfig
from ckf.config.schema.fusion import CurriculumConfig, FusionConfig
from ckf.config.schema.lora import LoraConfig
from ckf.config.schema.splits import SplitConfig
from ckf.config.schema.sweep import LauncherConfig, SearchConfig
from ckf.config.schema.tasks import PromptsConfig, TaskConfig, TasksConfig
from ckf.config.schema.training import (
    BaselinesConfig,
    EvaluateConfig,
    LoggerConfig,
    MethodConfig,
    PathsConfig,
    PerturbationConfig,
    PretrainConfig,
    TrainConfig,
    TrainerConfig,
)
from ckf.config.schema.validators import at_least
from ckf.core.artifact_store import file_hash
from ckf.core.errors import Problem
from ckf.tasks import BUILT_IN, Task


@dataclass
class ExperimentConfig:
    """The whole of a run's configuration."""

    name: str = "main"
    seed: int = 0
    dataset: DatasetConfig = MISSING
    split: SplitConfig = MISSING
    cf: CFConfig = MISSING
    backbone: BackboneConfig = MISSING
    lora: LoraConfig = MISSING
    fusion: FusionConfig = MISSING
    tasks: TasksConfig = MISSING
    prompts: PromptsConfig = MISSING
    curriculum: CurriculumConfig = MISSING
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    launcher: LauncherConfig = MISSING
    search: SearchConfig = MISSING
    method: MethodConfig = MISSING
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    overwrite: bool = False

    def problems(self) -> Iterator[Problem]:
        """Rules across groups."""
        from ckf.config.rules.groups import cross_group_problems

        yield from at_least("seed", self.seed, 0)
        yield from cross_group_problems(self)

    @property
    def task_mix(self) -> list[TaskConfig]:
        """The tasks of this run: as listed, or every task the dataset provides with weight 1."""
        return self.tasks.mixture or [TaskConfig(name=task) for task in self.dataset.supported_tasks]

    @property
    def scored_mix(self) -> list[TaskConfig]:
        """The tasks whose answers are scored: all but those that write."""
        return [entry for entry in self.task_mix if not (entry.known_task and entry.known_task.written)]

    @property
    def task_set(self) -> dict[str, Task]:
        """Every task by name: the built-in ones, and the user's own of this run."""
        own = [entry.task for entry in self.tasks.mixture if entry.target is not None]
        return {**BUILT_IN, **{task.name: task for task in own}}

    @property
    def written_mix(self) -> list[TaskConfig]:
        """The tasks whose answers are generated as text."""
        return [entry for entry in self.task_mix if entry.known_task and entry.known_task.written]

    @property
    def ranking(self) -> int | str:
        """What names the protocol of the candidate lists: their length or file, and how titles are compared."""
        mean = "-mean" if self.evaluate.length_normalisation == "mean" else ""
        if self.evaluate.candidate_file is not None:
            return f"file-{file_hash(Path(self.evaluate.candidate_file))[:8]}{mean}"
        return f"c{self.tasks.candidates}{mean}" if mean else self.tasks.candidates
