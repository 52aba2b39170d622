"""Train with several processes, started here, or by torchrun or SLURM around the whole command.

Preparation, scoring and the report need one process. Under torchrun or srun, where every rank runs the same
command, rank 0 does them; the others wait for its messages (files in a folder next to the runs) and join it for
the training alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ckf.config.schema import ExperimentConfig
from ckf.core.artifact_store import fingerprint, read_json, write_json
from ckf.core.errors import ArtifactError, CkfError

_POLL_S = 0.5
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Membership:
    """This process among those that torchrun or SLURM started: its rank, their number, and a key of the start."""

    rank: int
    size: int
    job: str


def membership(environment: Mapping[str, str]) -> Membership | None:
    """Find this process's place among several that run the same command; None when it is alone.

    Raises:
        CkfError: torchrun on several nodes without an id, so that two starts could not be distinguished.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        names: tuple[str, ...] = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        if environment.get("LOCAL_WORLD_SIZE") == environment["WORLD_SIZE"]:
            environment = {**environment, "torchrun": str(os.getppid())}
            names = (*names, "torchrun")
        elif environment["TORCHELASTIC_RUN_ID"] == "none":
            raise CkfError("torchrun on several nodes needs its own id for each start: --rdzv-id=$RANDOM")
    elif "SLURM_PROCID" in environment:
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
        rank, size = int(environment["SLURM_PROCID"]), int(environment.get("SLURM_NTASKS", "1"))
    else:
        return None
    job = fingerprint([environment.get(name, "") for name in names])
    return Membership(rank, size, job) if size > 1 else None


def on_first_rank(exp: ExperimentConfig, work: Callable[[], Path]) -> Path:
    """Do the work on rank 0; every other rank joins its trainings and returns the same folder.

    Raises:
        CkfError: as many processes were started as the trainer does not ask for, or rank 0 failed.
    """
    me = membership(os.environ)
    if me is None:
        return work()
    if me.size != exp.trainer.world_size:
        raise CkfError(
            f"{me.size} processes run this command, but trainer.devices {exp.trainer.devices} * trainer.num_nodes "
            f"{exp.trainer.num_nodes} is {exp.trainer.world_size}; make them equal, or start it once"
        )
    place = meeting_place(exp, me)
    if me.rank > 0:
        return _follow(place)
    place.mkdir(parents=True, exist_ok=True)
    end: dict[str, str] = {"failed": "rank 0 failed; see its own message"}
    try:
        folder = work()
        end = {"done": str(folder)}
        return folder
    finally:
        _announce(place, end)


def meeting_place(exp: ExperimentConfig, me: Membership) -> Path:
    """The folder of rank 0's messages: the same for all ranks of one start, another for each other start."""
    return Path(exp.paths.outputs) / f".ranks-{me.job}"


def train_together(exp: ExperimentConfig, folder: Path) -> None:
    """Train a created run with all of its processes, as child processes, at a free port.

    Raises:
        CkfError: a process failed.
    """
    me = membership(os.environ)
    port = free_port()
    if me is not None:
        _announce(meeting_place(exp, me), {"train": str(folder), "port": str(port)})
        environment = _rank_environment(port)
    else:
        # Lightning starts the other ranks by running this command again; the rank and port variables of an outer
        # program are not meant for them
        environment = {key: value for key, value in os.environ.items() if not _of_ranks(key)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    done = subprocess.run(
        [sys.executable, "-m", "ckf.train.distributed.worker", str(folder)], env=environment, check=False
    )
    if done.returncode:
        raise CkfError(f"{folder}: training with {exp.trainer.world_size} processes failed (status {done.returncode})")


def free_port() -> int:
    """A free port, for the processes of one training to connect."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port


def _of_ranks(key: str) -> bool:
    return key in _RANK_VARIABLES or key.startswith(("SLURM_", "TORCHELASTIC_"))


def _rank_environment(port: int) -> dict[str, str]:
    """The environment of one rank: torchrun's or SLURM's, with this training's own port."""
    return {**os.environ, "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


def _announce(place: Path, message: dict[str, str]) -> None:
    write_json(place / f"{len(list(place.glob('*.json'))):04d}.json", message)


def _follow(place: Path) -> Path:
    """Join every training that rank 0 announces, until it is done."""
    number = 0
    while True:
        path = place / f"{number:04d}.json"
        while not path.is_file():
            time.sleep(_POLL_S)
        number += 1
        try:
            message = read_json(path)
        except ArtifactError:  # a network file system may show the name before the content
            time.sleep(_POLL_S)
            message = read_json(path)
        if "done" in message:
            return Path(message["done"])
        if "failed" in message:
            raise CkfError(message["failed"])
        done = subprocess.run(
            [sys.executable, "-m", "ckf.train.distributed.worker", message["train"]],
            env=_rank_environment(int(message["port"])),
            check=False,
        )
        if done.returncode:
            raise CkfError(f"{message['train']}: this process's part of the training failed (status {done.returncode})")
