"""Train an opened run folder: in this process, or (``python -m ckf.train.worker RUN``) in one of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ckf.errors import CkfError
from ckf.runs import artifact_path, read_run, record
from ckf.train.fit import Inputs, fit
from ckf.train.loggers import build_logger, finish


def train_run(run: Path) -> None:
    """Fit the run and note its counts on its card; everything is read from the folder."""
    exp, card = read_run(run)
    inputs = Inputs(
        dataset=artifact_path(card, "dataset", run),
        examples=artifact_path(card, "examples", run),
        backbone=card["artifacts"]["backbone"]["path"],
        cf=artifact_path(card, "cf", run) if exp.fusion.fuses else None,
    )
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    logger = build_logger(exp, run) if first else None
    try:
        counts = fit(exp, inputs, run, logger)
    finally:
        if logger is not None:
            finish(logger)
    if first:
        record(run, train=counts)


def main() -> int:
    """Entry point of the process."""
    try:
        train_run(Path(sys.argv[1]))
    except CkfError as error:
        print(f"ckf: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
