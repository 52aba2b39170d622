"""``ckf evaluate``: score a trained run again."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import CACHE, Argument, Typed, Verb
from ckf.config.compose import load_yaml, with_overrides
from ckf.core.errors import ConfigError, Problem


def call(typed: Typed) -> Path:
    """Score a run with its own config; another dataset or own candidate lists go to ``out``."""
    run, out, overrides = typed.run_folder(), typed.path("out"), typed.overrides
    elsewhere = [f"{key}={typed.values[key]}" for key in ("dataset", "split") if key in typed.values]
    elsewhere += [line for line in overrides if line.startswith(("dataset.", "split."))]
    overrides = [line for line in overrides if line not in elsewhere]
    problems = []
    if elsewhere and "dataset" not in typed.values:
        needed = "required to evaluate on other data (e.g. dataset=ml_latest dataset.root=DIR)"
        problems.append(Problem("dataset", needed))
    own_lists = any(line.startswith("evaluate.candidate_file=") for line in overrides)
    if (elsewhere or own_lists) and out is None:
        needed = "required with other data or lists (e.g. out=DIR); the run keeps its own figures"
        problems.append(Problem("out", needed))
    if problems:
        raise ConfigError(problems)
    with_overrides(load_yaml(run / "config.yaml"), overrides, allowed=("evaluate.", "trainer."))
    from ckf.pipeline.run import evaluate

    return evaluate(run, overrides, out=out, elsewhere=elsewhere, cache=typed.path(CACHE.key))


VERB = Verb(
    "evaluate",
    "score a trained run again, with the config it was trained with; evaluate.* and trainer.* may be overridden",
    call,
    arguments=(
        Argument("run", "folder of the run", "outputs/NAME", required=True),
        Argument("out", "folder for the figures, in place of the run's own", "DIR"),
        Argument("dataset", "score on this dataset instead (with its dataset.KEY=VALUE; needs out=)", "ml_latest"),
        Argument("split", "split that dataset so", "temporal"),
        CACHE,
    ),
    overrides=True,
    config_dir=False,
    examples=("ckf evaluate run=outputs/NAME evaluate.batch_size=8",),
)
