"""``ckf inspect``: examples as the model gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckf.cli.arguments import Argument, Typed, Verb
from ckf.config.option_groups import did_you_mean
from ckf.config.schema import ExperimentConfig, NoBackboneConfig
from ckf.core.errors import ConfigError, Problem
from ckf.core.split_names import SPLITS
from ckf.tasks import BUILT_IN, DEFAULT_TASK

if TYPE_CHECKING:
    from ckf.cli.inspection import Request


def call(typed: Typed) -> None:
    """Print examples token by token.

    Raises:
        ConfigError: a wrong argument, a task that the dataset has no data for, or no tokenizer to inspect with.
    """
    _check_example(typed)
    exp = typed.compose().exp
    _check_config(typed, exp)
    from ckf.cli.inspection import Request

    values, slots = typed.values, typed.values.get("slots")
    request = Request(
        task=values.get("task"),
        n=int(values.get("n", "3")),
        split=values.get("split", "train"),
        slots=None if slots is None else slots == "true",
        example=values.get("example"),
    )
    inspect(exp, request)


def inspect(exp: ExperimentConfig, request: Request) -> None:
    """Print the requested examples."""
    from ckf.cli.inspection import inspect_examples
    from ckf.pipeline.artifacts import get_tokenizer, log, prepare_dataset, prepare_examples

    dataset = prepare_dataset(exp)
    examples = prepare_examples(exp, dataset)
    for line in inspect_examples(exp, dataset.path, examples.path, get_tokenizer(exp, dataset), request):
        log(line)


def _check_example(typed: Typed) -> None:
    example, task = typed.values.get("example"), typed.values.get("task")
    if example and len(example.split("/")) != 3:
        wrong = f"'{example}' is no example id; one reads task/split/user-item, e.g. ctr/test/12-7"
        raise ConfigError([Problem("example", wrong)])
    if example and task and not example.startswith(f"{task}/"):
        raise ConfigError([Problem("example", f"{example} is of another task than task={task}")])


def _check_config(typed: Typed, exp: ExperimentConfig) -> None:
    problems, task, has = [], typed.values.get("task"), exp.dataset.supported_tasks
    known = list(dict.fromkeys([*has, *(entry.name for entry in exp.task_mix)]))
    if isinstance(exp.backbone, NoBackboneConfig):
        problems.append(Problem("backbone=none", "has no tokenizer to inspect with; use backbone=tiny or hf"))
    if task and task not in known and task not in BUILT_IN:
        near = did_you_mean(task, known)
        problems.append(Problem("task", f"'{task}' is not allowed{near} (one of {', '.join(known)})"))
    elif task and task not in known:
        problems.append(Problem("task", f"{task}, but dataset={exp.dataset.name} provides {', '.join(has)}"))
    if problems:
        raise ConfigError(problems)


VERB = Verb(
    "inspect",
    "show examples as the model gets them: text, tokens, label mask, slots, what was cut",
    call,
    arguments=(
        Argument("task", "examples of this task (default: every task of the mixture)", DEFAULT_TASK),
        Argument("n", "how many of each task (default 3)", "3", count_of="examples"),
        Argument("split", "of this split (default train)", "test", allowed=SPLITS),
        Argument("slots", "the prompt with slots, or the text-only one", "false", allowed=("true", "false")),
        Argument("example", "one example by its id", "TASK/test/12-7"),
    ),
    composes=True,
    examples=("ckf inspect task=topk n=1 split=test             # one ranking prompt, token by token",),
)
