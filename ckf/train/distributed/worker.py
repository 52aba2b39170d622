"""Train a created run folder, in this process or in a child process (``python -m MODULE RUN``)."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from ckf.assembly import Inputs
from ckf.config.schema import ExperimentConfig
from ckf.core.errors import CkfError
from ckf.model.provenance import identity
from ckf.runs.artifact_places import artifact_path, backbone_path
from ckf.runs.folder import read_run, update_metadata
from ckf.tracking.loggers import build_logger, finish
from ckf.train.fit import fit


def run_inputs(exp: ExperimentConfig, metadata: dict[str, Any], run: Path) -> Inputs:
    """Folders of the artifacts that a run is made from, as its metadata names them."""
    return Inputs(
        dataset=artifact_path(metadata, "dataset", run),
        examples=artifact_path(metadata, "examples", run),
        backbone=backbone_path(metadata, run),
        cf=artifact_path(metadata, "cf", run) if exp.fusion.reads_vectors else None,
    )


def train_run(run: Path, logger: Logger | None) -> None:
    """Fit the run and add the results to its metadata; everything is read from the folder."""
    exp, metadata = read_run(run)
    inputs = run_inputs(exp, metadata, run)
    counts = fit(exp, inputs, run, logger)
    if _is_first():
        trained_on = identity(run, inputs.backbone, getattr(exp.backbone, "revision", None))
        update_metadata(run, train=counts, identity=trained_on)


def _is_first() -> bool:
    """Whether this is rank 0: of torchrun, of SLURM, or of the processes that Lightning starts (their local rank)."""
    return next((int(os.environ[k]) for k in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if k in os.environ), 0) == 0


def end_with_parent(every_s: float = 2.0) -> None:
    """End this process when its parent has died; otherwise it would wait long for messages from it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_s)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """Entry point of a training process: every rank of a distributed run comes through here."""
    run = Path(sys.argv[1])
    if not _is_first():
        end_with_parent()
    logger = build_logger(read_run(run)[0], run) if _is_first() else None
    try:
        train_run(run, logger)
    except CkfError as error:
        print(f"ckf: {error}", file=sys.stderr)
        return error.exit_status
    finally:
        if logger is not None:
            finish(logger)
    return 0


if __name__ == "__main__":
    sys.exit(main())
