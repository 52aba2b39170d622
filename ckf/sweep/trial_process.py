"""The process of one trial of a sweep: ``python -m ckf.sweep.trial_process FOLDER``, started by a launcher."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ckf.config.compose import load_yaml
from ckf.core.artifact_store import read_json
from ckf.runs.folder import CONFIG
from ckf.sweep.trial_folder import ALREADY_DONE, DONE, INTERRUPTED, ORDER, run_trial


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trial of a folder; exit status 0 done, 1 failed, 130 interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a launcher's shell may have it ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path((sys.argv[1:] if argv is None else argv)[0])
    from ckf.pipeline.run import cf, prepare, run, train
    from ckf.train.distributed.rendezvous import membership

    stages = {"": run, "prepare": prepare, "cf": cf, "train": train}
    me = membership(os.environ)
    if me is not None and me.rank > 0:  # a cluster's job of several tasks: rank 0 keeps the trial's folder
        stages[read_json(folder / ORDER)["verb"]](load_yaml(folder / CONFIG))
        return 0
    result = run_trial(folder, stages)
    if result.run:
        print(result.run, flush=True)
    return {DONE: 0, ALREADY_DONE: 0, INTERRUPTED: 130}.get(result.state, 1)


if __name__ == "__main__":
    sys.exit(main())
