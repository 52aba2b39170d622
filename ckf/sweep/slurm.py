"""Trials as jobs of a SLURM cluster, through submitit."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

from ckf.config.schema import SlurmLauncherConfig, TrainerConfig
from ckf.core.errors import CkfError, first_line
from ckf.sweep.launchers import JobHandle
from ckf.sweep.trial_folder import LOG, TrialSpec


class TrialJob:
    """What submitit runs on the node: the trial's process. At the time limit the job is put into the queue again."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command, self.log = command, log

    def __call__(self) -> int:
        """Run the trial; its status."""
        with self.log.open("a", encoding="utf-8") as log:
            return subprocess.run(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
            ).returncode

    def checkpoint(self) -> Any:
        """Called by submitit before a job is ended; the run continues from its last checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class SubmittedJob:
    """A job in the queue."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def ended(self) -> str | None:
        """None while it waits or runs; then its state where that is not a plain end."""
        if not self.job.done():
            return None
        return "" if self.job.state in ("COMPLETED", "UNKNOWN") else f"SLURM job {self.job.job_id}: {self.job.state}"

    def stop(self, *, now: bool) -> None:
        """Cancel the job; SLURM ends it as it ends one at its time limit."""
        self.job.cancel()


class SlurmLauncher:
    """Submits a job for each trial; ``jobs`` are in the queue at a time."""

    def __init__(self, cfg: SlurmLauncherConfig, logs: Path) -> None:
        self.cfg, self.jobs, self.poll_s = cfg, cfg.jobs, cfg.poll_s
        self.folder = logs / "slurm"

    def start(self, spec: TrialSpec) -> JobHandle:
        """Submit the job of a trial.

        Raises:
            CkfError: no SLURM here, or it refuses the job.
        """
        submitit = _submitit()
        try:
            executor = submitit.SlurmExecutor(folder=self.folder)
            executor.update_parameters(**parameters(self.cfg, spec))
            return SubmittedJob(executor.submit(TrialJob(spec.command, spec.folder / LOG)))
        except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
            reason = first_line(error)
            raise CkfError(
                f"launcher=slurm: {reason}; launcher.dry_run=true shows the batch script, launcher=local runs here"
            ) from None


def parameters(cfg: SlurmLauncherConfig, spec: TrialSpec) -> dict[str, Any]:
    """submitit's parameters of a trial's job: a task for each process that trains, GPUs for each of them."""
    trainer = spec.config.trainer
    options: dict[str, Any] = {
        "job_name": f"ckf-{spec.folder.parent.name}",
        "time": cfg.timeout_min,
        "nodes": trainer.num_nodes,
        "ntasks_per_node": trainer.devices,
        "cpus_per_task": cfg.cpus_per_task,
        "gpus_per_node": cfg.gpus_per_node if cfg.gpus_per_node is not None else _gpus(trainer),
        "partition": cfg.partition,
        "account": cfg.account,
        "qos": cfg.qos,
        "constraint": cfg.constraint,
        "mem": f"{cfg.mem_gb}GB" if cfg.mem_gb is not None else None,
        "setup": list(cfg.setup) or None,
        "additional_parameters": dict(line.split("=", 1) for line in cfg.extra) or None,
    }
    return {key: value for key, value in options.items() if value is not None}


def _gpus(trainer: TrainerConfig) -> int | None:
    return trainer.devices if trainer.accelerator == "gpu" else None


def batch_script(cfg: SlurmLauncherConfig, spec: TrialSpec) -> str:
    """The batch script that submitit would submit for a trial; needs no SLURM."""
    _submitit()
    from submitit.slurm.slurm import _make_sbatch_string  # submitit shows its script in no other way without SLURM

    folder = spec.folder.parent / "slurm"
    text: str = _make_sbatch_string(command=shlex.join(spec.command), folder=folder, **parameters(cfg, spec))
    return text


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise CkfError("launcher=slurm needs submitit: pip install 'ckf[slurm]'") from None
    return submitit
