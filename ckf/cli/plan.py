"""``ckf plan``: what a run will take."""

from __future__ import annotations

from ckf.cli.arguments import Typed, Verb
from ckf.config.schema import ExperimentConfig, NoBackboneConfig, NoCurriculumConfig
from ckf.core.errors import CkfError, ConfigError, Problem, first_line


def call(typed: Typed) -> None:
    """Compose the config and print what its run will take."""
    plan(typed.compose().exp)


def plan(exp: ExperimentConfig) -> None:
    """Print parameters, tokens, time, memory and disk of a run; train nothing.

    Raises:
        ConfigError: the config trains nothing.
    """
    if isinstance(exp.backbone, NoBackboneConfig) or isinstance(exp.curriculum, NoCurriculumConfig):
        what = f"backbone={exp.backbone.name} with curriculum={exp.curriculum.name} trains nothing"
        raise ConfigError([Problem("plan", what)])
    from ckf.pipeline.artifacts import get_tokenizer, log, prepare_dataset, prepare_examples
    from ckf.train.cost_estimate import describe_cost

    try:
        dataset = prepare_dataset(exp)
        folders = dataset.path, prepare_examples(exp, dataset).path, get_tokenizer(exp, dataset)
    except CkfError as error:  # the parts can be counted without any data
        log(f"data: {first_line(error)}")
        folders = None
    for line in describe_cost(exp, folders):
        log(line)


VERB = Verb(
    "plan",
    "estimate what a run will take: parameters by part, tokens, time, memory and disk; trains nothing",
    call,
    composes=True,
    examples=("ckf plan backbone=llama3_1_8b trainer=gpu",),
)
