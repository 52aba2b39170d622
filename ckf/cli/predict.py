"""``ckf predict``: score rows of a user's own."""

from __future__ import annotations

import sys
from pathlib import Path

from ckf.cli.arguments import CACHE, Argument, Typed, Verb


def call(typed: Typed) -> Path:
    """Score the rows of a file; return the file with the scores."""
    run, out = typed.run_folder(), Path(typed.values["out"])
    from ckf.inference.predict import predict_file
    from ckf.inference.predictor import Predictor

    skip_bad = typed.values.get("bad_rows") == "skip"
    trained = Predictor.load(run, typed.path(CACHE.key))
    counts = predict_file(trained, Path(typed.values["input"]), out, skip_bad=skip_bad)
    parts = [f"{counts.rows} rows"]
    parts += [f"{counts.bad} left out"] if counts.bad else []
    parts += [f"{counts.resumed} scored before"] if counts.resumed else []
    print(f"predict: {', '.join(parts)}")
    if counts.cold:
        named = ", ".join(f"'{name}'" for name in counts.unknown)
        print(
            f"ckf: warning: {counts.cold} of {counts.rows} rows are of users that the data does not know ({named}, …); "
            f"they are scored as cold users and marked known=false. Ids of the data read like "
            f"{trained.known.user_id_examples}",
            file=sys.stderr,
        )
    return out


VERB = Verb(
    "predict",
    "score rows of your own with a trained run; prints the file with the scores",
    call,
    arguments=(
        Argument("run", "folder of the run", "outputs/NAME", required=True),
        Argument("input", "parquet file with the rows: task, user, item or candidates, ...", "rows.parquet",
                 required=True),
        Argument("out", "parquet file for the scores", "scores.parquet", required=True),
        Argument("bad_rows", "stop at a row that cannot be scored (default), or leave it out", "skip",
                 allowed=("stop", "skip")),
        CACHE,
    ),
    config_dir=False,
    examples=("ckf predict run=outputs/NAME input=rows.parquet out=scores.parquet",),
)  # fmt: skip
