"""The process of one trial of a sweep: ``python -m ckf.trial FOLDER``, wherever a launcher starts it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ckf.sweep.order import DONE, FOUND, INTERRUPTED, run_order


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trial whose order lies in a folder; exit status 0 done, 1 failed, 130 interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a launcher's shell may have it ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path((sys.argv[1:] if argv is None else argv)[0])
    from ckf import pipeline

    outcome = run_order(
        folder, {"": pipeline.run, "prepare": pipeline.prepare, "cf": pipeline.cf, "train": pipeline.train}
    )
    if outcome.run:
        print(outcome.run, flush=True)
    return {DONE: 0, FOUND: 0, INTERRUPTED: 130}.get(outcome.state, 1)


if __name__ == "__main__":
    sys.exit(main())
