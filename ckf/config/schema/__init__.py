"""Every setting of ckf as a typed field; one dataclass for each option of each config group.

Values live in ``conf/``; these modules say which keys exist, their types and units, and which values
make sense. ``problems()`` yields one line for each fault of a node (rules across groups: `rules.py`).
It is not ``__post_init__`` because that would not run on composed values. No heavy imports here:
a refused config must answer in well under three seconds.
"""

from ckf.config.schema.backbone import (
    BackboneConfig,
    HFBackboneConfig,
    NoBackboneConfig,
    TinyBackboneConfig,
)
from ckf.config.schema.data import (
    CODES,
    SLOTS,
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
from ckf.config.schema.fusion import (
    MAPS,
    BinaryFusionConfig,
    CurriculumConfig,
    FusionConfig,
    JointCurriculumConfig,
    LinearFusionConfig,
    MetaAttentionFusionConfig,
    MetaFusionConfig,
    MLPFusionConfig,
    NoCurriculumConfig,
    NoFusionConfig,
    RandomFusionConfig,
    SigmoidCurriculumConfig,
    SoftPromptFusionConfig,
    TextOnlyCurriculumConfig,
    TwoStageCurriculumConfig,
)
from ckf.config.schema.lora import LoraConfig, LoraInitConfig, LoraRoleConfig, LoraTaskConfig
from ckf.config.schema.model import BiasConfig, CFConfig, MFConfig
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
    "CODES",
    "MAPS",
    "SLOTS",
    "TASKS",
    "BackboneConfig",
    "BaselinesConfig",
    "BiasConfig",
    "BinaryFusionConfig",
    "CFConfig",
    "CSVConfig",
    "CollmConfig",
    "CurriculumConfig",
    "DatasetConfig",
    "EvaluateConfig",
    "ExperimentConfig",
    "FusionConfig",
    "HFBackboneConfig",
    "JointCurriculumConfig",
    "LinearFusionConfig",
    "LoggerConfig",
    "LoraConfig",
    "LoraInitConfig",
    "LoraRoleConfig",
    "LoraTaskConfig",
    "MFConfig",
    "MLPFusionConfig",
    "MetaAttentionFusionConfig",
    "MetaFusionConfig",
    "MethodConfig",
    "NoBackboneConfig",
    "NoCurriculumConfig",
    "NoFusionConfig",
    "PathsConfig",
    "PretrainConfig",
    "PromptConfig",
    "PromptsConfig",
    "RandomFusionConfig",
    "SigmoidCurriculumConfig",
    "SoftPromptFusionConfig",
    "SplitConfig",
    "SyntheticConfig",
    "TaskConfig",
    "TasksConfig",
    "TextOnlyCurriculumConfig",
    "TinyBackboneConfig",
    "TrainConfig",
    "TrainerConfig",
    "TwoStageCurriculumConfig",
    "WandbConfig",
]
