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
from ckf.config.schema.sources import (
    AmazonConfig,
    MovieLensConfig,
    MovieLensLatestConfig,
    ProcessedJsonConfig,
    RecboleConfig,
)
from ckf.config.schema.splits import SplitConfig
from ckf.config.schema.tasks import CODES, SLOTS, TASKS, PromptConfig, PromptsConfig, TaskConfig, TasksConfig

__all__ = [
    "CODES",
    "MAPS",
    "SLOTS",
    "TASKS",
    "AmazonConfig",
    "BackboneConfig",
    "BaselinesConfig",
    "BiasConfig",
    "BinaryFusionConfig",
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
    "MovieLensConfig",
    "MovieLensLatestConfig",
    "NoBackboneConfig",
    "NoCurriculumConfig",
    "NoFusionConfig",
    "PathsConfig",
    "PretrainConfig",
    "ProcessedJsonConfig",
    "PromptConfig",
    "PromptsConfig",
    "RandomFusionConfig",
    "RecboleConfig",
    "SigmoidCurriculumConfig",
    "SoftPromptFusionConfig",
    "SplitConfig",
    "SyntheticConfig",
    "TabularConfig",
    "TaskConfig",
    "TasksConfig",
    "TextOnlyCurriculumConfig",
    "TinyBackboneConfig",
    "TrainConfig",
    "TrainerConfig",
    "TwoStageCurriculumConfig",
    "WandbConfig",
]
