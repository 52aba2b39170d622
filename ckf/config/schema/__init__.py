"""Every setting of ckf as a typed field; one dataclass for each option of each config group.

Values live in ``conf/``; these modules say which keys exist, their types and units, and which values
make sense. ``problems()`` yields one line for each fault of a node (rules across groups: `rules.py`).
It is not ``__post_init__`` because that would not run on composed values. No heavy imports here:
a refused config must answer in well under three seconds.
"""

from ckf.config.schema.datasets import (
    CollmConfig,
    ColumnsConfig,
    DatasetConfig,
    FilterConfig,
    ItemColumnsConfig,
    SyntheticConfig,
    TabularConfig,
)
from ckf.config.schema.experiment import ExperimentConfig
from ckf.config.schema.model import (
    BackboneConfig,
    BiasConfig,
    CFConfig,
    CurriculumConfig,
    FusionConfig,
    HFBackboneConfig,
    LinearFusionConfig,
    LoraConfig,
    LoraRoleConfig,
    MetaFusionConfig,
    MFConfig,
    NoBackboneConfig,
    NoFusionConfig,
    RandomFusionConfig,
    TinyBackboneConfig,
)
from ckf.config.schema.running import (
    BaselinesConfig,
    CSVConfig,
    EvaluateConfig,
    LoggerConfig,
    MethodConfig,
    PathsConfig,
    PretrainConfig,
    TrainConfig,
    TrainerConfig,
    WandbConfig,
)
from ckf.config.schema.sources import (
    AmazonConfig,
    MovieLensConfig,
    MovieLensLatestConfig,
    ProcessedJsonConfig,
    RecboleConfig,
)
from ckf.config.schema.splits import SplitConfig
from ckf.config.schema.tasks import TASKS, PromptConfig, PromptsConfig, TaskConfig, TasksConfig

__all__ = [
    "TASKS",
    "AmazonConfig",
    "BackboneConfig",
    "BaselinesConfig",
    "BiasConfig",
    "CFConfig",
    "CSVConfig",
    "CollmConfig",
    "ColumnsConfig",
    "CurriculumConfig",
    "DatasetConfig",
    "EvaluateConfig",
    "ExperimentConfig",
    "FilterConfig",
    "FusionConfig",
    "HFBackboneConfig",
    "ItemColumnsConfig",
    "LinearFusionConfig",
    "LoggerConfig",
    "LoraConfig",
    "LoraRoleConfig",
    "MFConfig",
    "MetaFusionConfig",
    "MethodConfig",
    "MovieLensConfig",
    "MovieLensLatestConfig",
    "NoBackboneConfig",
    "NoFusionConfig",
    "PathsConfig",
    "PretrainConfig",
    "ProcessedJsonConfig",
    "PromptConfig",
    "PromptsConfig",
    "RandomFusionConfig",
    "RecboleConfig",
    "SplitConfig",
    "SyntheticConfig",
    "TabularConfig",
    "TaskConfig",
    "TasksConfig",
    "TinyBackboneConfig",
    "TrainConfig",
    "TrainerConfig",
    "WandbConfig",
]
