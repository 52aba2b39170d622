"""``ckf recommend``: the best items for a user."""

from __future__ import annotations

from pathlib import Path

from ckf.cli.arguments import CACHE, Argument, Typed, Verb


def call(typed: Typed) -> Path:
    """Print the best items for a user; return the run folder."""
    run = typed.run_folder()
    from ckf.inference.predictor import Predictor
    from ckf.inference.recommend import recommendation

    numbers = {key: int(typed.values[key]) for key in ("top", "rerank") if key in typed.values}
    seen = typed.values.get("seen") == "true"
    print(
        recommendation(Predictor.load(run, typed.path(CACHE.key)), typed.values["user"], seen=seen, **numbers), end=""
    )
    return run


VERB = Verb(
    "recommend",
    "recommend items to a user with a trained run",
    call,
    arguments=(
        Argument("run", "folder of the run", "outputs/NAME", required=True),
        Argument("user", "the user's id as in the source data", "42", required=True),
        Argument("top", "how many items to print (default 10)", "10", count_of="items"),
        Argument("rerank", "how many of the CF model's best items the language model ranks (default 100)", "100",
                 count_of="items"),
        Argument("seen", "also recommend what the user has met (default false)", "true", allowed=("true", "false")),
        CACHE,
    ),
    config_dir=False,
    examples=("ckf recommend run=outputs/NAME user=42 top=10",),
)  # fmt: skip
