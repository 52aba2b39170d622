"""Every setting of ckf as a typed field; one dataclass for each option of each config group.

Values live in ``conf/``; these modules say which keys exist, their types and units, and which values
make sense. ``problems()`` yields one line for each fault of a node (rules across groups: `rules.py`).
It is not ``__post_init__`` because that would not run on composed values. No heavy imports here:
a refused config must answer in well under three seconds.
"""

from ckf.config.schema.cf import (
    BiasConfig,
    CFConfig,
    DINConfig,
    EmbeddingConfig,
    FeaturesConfig,
    ItemKNNConfig,
    LightGCNConfig,
    MFConfig,
    PopularityConfig,
    SASRecConfig,
    SequenceConfig,
)
from ckf.config.schema.data import (
    TASKS,
    CollmConfig,
    DatasetConfig,
    PromptConfig,
    PromptsConfig,
    SplitConfig,
    SyntheticConfig,
    TaskConfig,
    TasksConfig,
)
from ckf.config.schema.experiment import ExperimentConfig
from ckf.config.schema.model import (
    BackboneConfig,
    CurriculumConfig,
    FusionConfig,
    HFBackboneConfig,
    LinearFusionConfig,
    LoraConfig,
    LoraRoleConfig,
    MetaFusionConfig,
    NoBackboneConfig,
    NoFusionConfig,
    RandomFusionConfig,
    TinyBackboneConfig,
)
from ckf.config.schema.pretrained import PretrainedConfig
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

__all__ = [
    "TASKS",
    "BackboneConfig",
    "BaselinesConfig",
    "BiasConfig",
    "CFConfig",
    "CSVConfig",
    "CollmConfig",
    "CurriculumConfig",
    "DINConfig",
    "DatasetConfig",
    "EmbeddingConfig",
    "EvaluateConfig",
    "ExperimentConfig",
    "FeaturesConfig",
    "FusionConfig",
    "HFBackboneConfig",
    "ItemKNNConfig",
    "LightGCNConfig",
    "LinearFusionConfig",
    "LoggerConfig",
    "LoraConfig",
    "LoraRoleConfig",
    "MFConfig",
    "MetaFusionConfig",
    "MethodConfig",
    "NoBackboneConfig",
    "NoFusionConfig",
    "PathsConfig",
    "PopularityConfig",
    "PretrainConfig",
    "PretrainedConfig",
    "PromptConfig",
    "PromptsConfig",
    "RandomFusionConfig",
    "SASRecConfig",
    "SequenceConfig",
    "SplitConfig",
    "SyntheticConfig",
    "TaskConfig",
    "TasksConfig",
    "TinyBackboneConfig",
    "TrainConfig",
    "TrainerConfig",
    "WandbConfig",
]
