"""How a sweep is run: where its trials go, and how their settings are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, one_of
from ckf.core.errors import Problem


@dataclass
class LauncherConfig:
    """Where the trials of a sweep run. It is no part of a run's name."""

    name: str = MISSING
    """The option's name."""
    jobs: int = 1
    """Trials that run (or wait in the cluster's queue) at a time."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from at_least("jobs", self.jobs, 1)


@dataclass
class LocalLauncherConfig(LauncherConfig):
    """Processes on this machine."""

    gpus: list[int] = field(default_factory=list)
    """Numbers of the GPUs, one for each trial at a time (``CUDA_VISIBLE_DEVICES``). Empty leaves the choice to the
    trial."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges, and that there is a GPU for each process."""
        yield from super().problems()
        if self.gpus and self.jobs > len(self.gpus):
            yield Problem("jobs", f"must be at most {len(self.gpus)}, the number of launcher.gpus, got {self.jobs}")
        if len(set(self.gpus)) != len(self.gpus) or any(gpu < 0 for gpu in self.gpus):
            yield Problem("gpus", f"must be different numbers from 0, got {self.gpus}")


@dataclass
class SlurmLauncherConfig(LauncherConfig):
    """Jobs of a SLURM cluster through submitit, one for each trial. What is null is left to the cluster."""

    timeout_min: int = 240
    """Time limit of a trial, in minutes."""
    cpus_per_task: int = 8
    """CPU cores of a trial."""
    partition: str | None = None
    """Partition of the cluster."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that a node must have."""
    gpus_per_node: int | None = None
    """GPUs of a trial."""
    mem_gb: int | None = None
    """Memory of a trial, in GB."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before the trial, e.g. modules or a virtual environment."""
    extra: list[str] = field(default_factory=list)
    """Further ``key=value`` of ``#SBATCH``, e.g. 'mail-type=FAIL'."""
    poll_s: float = 10.0
    """Seconds between two polls of the queue."""
    dry_run: bool = False
    """Whether to print the batch script and submit nothing."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from super().problems()
        for name in ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb"):
            yield from at_least(name, getattr(self, name), 1)
        for index, line in enumerate(self.extra):
            if "=" not in line:
                yield Problem(f"extra[{index}]", f"'{line}' is not key=value, e.g. 'mail-type=FAIL'")
        if self.poll_s <= 0:
            yield Problem("poll_s", f"must be above 0, got {self.poll_s:g}")


@dataclass
class SearchConfig:
    """How the settings of a sweep's trials are chosen. It is no part of a run's name."""

    name: str = MISSING
    """The option's name."""


@dataclass
class GridSearchConfig(SearchConfig):
    """Every combination of what is swept."""


@dataclass
class OptunaSearchConfig(SearchConfig):
    """Optuna's sampler over ``choice(...)``, ``range(...)`` and ``interval(...)``, by a metric of the val split.

    Trials are sampled in batches of ``launcher.jobs`` and their results given in order, so that the same
    command samples the same trials again and finds those that are finished.
    """

    trials: int = 20
    """Number of trials, in batches of ``launcher.jobs``."""
    metric: str = "val/ctr/auc"
    """Metric of the val split. A test metric is refused, since searching by it leaks."""
    direction: str = "maximize"
    """``maximize`` or ``minimize``."""
    sampler: str = "tpe"
    """``tpe`` or ``random``."""
    search_seed: int = 0
    """Seed of the sampler. The same command samples the same trials again and finds those that are finished."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges and names."""
        yield from at_least("trials", self.trials, 1)
        yield from at_least("search_seed", self.search_seed, 0)
        yield from one_of("direction", self.direction, ("maximize", "minimize"))
        yield from one_of("sampler", self.sampler, ("tpe", "random"))
        if self.metric.startswith(("test/", "text/", "cf/", "bias/", "oracle/")) or "/" not in self.metric:
            yield Problem(
                "metric", f"'{self.metric}' is no figure of the val split, e.g. val/ctr/auc; searching by test leaks"
            )
