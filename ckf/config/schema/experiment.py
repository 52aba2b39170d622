"""The whole of a run's configuration."""

from __future__ import annotations

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
from ckf.core.artifact_store import file_hash
from ckf.tasks import BUILT_IN, Task


@dataclass
class ExperimentConfig:
    """The whole of a run's configuration."""

    name: str = "main"
    """Group of the runs in Weights & Biases, unless ``logger.group`` is set."""
    seed: int = 0
    """Seed of training: weights, order of batches and dropout."""
    dataset: DatasetConfig = MISSING
    """The source of interactions."""
    split: SplitConfig = MISSING
    """How interactions become train, val and test."""
    cf: CFConfig = MISSING
    """The collaborative-filtering model."""
    backbone: BackboneConfig = MISSING
    """The language model."""
    lora: LoraConfig = MISSING
    """The adapters."""
    fusion: FusionConfig = MISSING
    """How CF knowledge enters the prompt."""
    tasks: TasksConfig = MISSING
    """The tasks and their mix."""
    prompts: PromptsConfig = MISSING
    """The wording."""
    curriculum: CurriculumConfig = MISSING
    """When which part learns from which stream."""
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    """Pre-training of the tiny backbone."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Fine-tuning."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """Scoring."""
    trainer: TrainerConfig = MISSING
    """Lightning's Trainer."""
    logger: LoggerConfig = MISSING
    """Where metrics go besides ``metrics.jsonl``."""
    launcher: LauncherConfig = MISSING
    """Where the trials of a sweep run."""
    search: SearchConfig = MISSING
    """How the trials of a sweep are chosen."""
    method: MethodConfig = MISSING
    """The preset that a run is based on."""
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)
    """Noise put in on purpose."""
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    """Baselines that are trained with the model."""
    paths: PathsConfig = field(default_factory=PathsConfig)
    """Where artifacts and runs go."""
    overwrite: bool = False
    """Whether to delete the run of the same configuration and start again. Off: a finished run is left alone, an
    unfinished one resumed."""

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
