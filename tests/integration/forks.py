"""Run as a program: imports everything once, then forks a `ckf` command for each line on stdin.

A killed command costs its own steps then, not ten seconds of imports. The parent never computes
anything with torch, so a fork of it is sound.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from ckf.cli import main as cli


def main() -> None:
    """Answer each line (a JSON list of arguments) with the child's pid, and with its wait status when it ends."""
    for module in (
        "ckf.pipeline.run",
        "ckf.train.distributed.worker",
        "ckf.eval.evaluate",
        "transformers.models.llama",
    ):
        importlib.import_module(module)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            os.setsid()
            sink = os.open(os.devnull, os.O_RDWR)
            os.dup2(sink, 0)
            os.dup2(sink, 1)
            os._exit(cli.main(json.loads(line)))
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
