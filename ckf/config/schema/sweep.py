"""How a sweep is run: where its trials go, and how their settings are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, one_of
from ckf.core.errors import Problem


@dataclass
class LauncherConfig:
    """Where the trials of a sweep run; ``jobs`` at a time. No part of a run's name."""

    name: str = MISSING
    jobs: int = 1

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from at_least("jobs", self.jobs, 1)


@dataclass
class LocalLauncherConfig(LauncherConfig):
    """Processes on this machine. With ``gpus`` each trial sees one of them, by ``CUDA_VISIBLE_DEVICES``."""

    gpus: list[int] = field(default_factory=list)

    def problems(self) -> Iterator[Problem]:
        """Check ranges, and that there is a GPU for each process."""
        yield from super().problems()
        if self.gpus and self.jobs > len(self.gpus):
            yield Problem("jobs", f"must be at most {len(self.gpus)}, the number of launcher.gpus, got {self.jobs}")
        if len(set(self.gpus)) != len(self.gpus) or any(gpu < 0 for gpu in self.gpus):
            yield Problem("gpus", f"must be different numbers from 0, got {self.gpus}")


@dataclass
class SlurmLauncherConfig(LauncherConfig):
    """Jobs of a SLURM cluster through submitit, one for each trial; what is null is left to the cluster.

    ``jobs`` is how many are in the queue at a time, ``setup`` are shell lines before the trial (modules, a virtual
    environment), ``extra`` are further ``key=value`` of ``#SBATCH``. ``dry_run`` prints the batch script alone.
    """

    timeout_min: int = 240
    cpus_per_task: int = 8
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus_per_node: int | None = None
    mem_gb: int | None = None
    setup: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    poll_s: float = 10.0
    dry_run: bool = False

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
    """How the settings of a sweep's trials are chosen. No part of a run's name."""

    name: str = MISSING


@dataclass
class GridSearchConfig(SearchConfig):
    """Every combination of what is swept."""


@dataclass
class OptunaSearchConfig(SearchConfig):
    """Optuna's sampler over ``choice(...)``, ``range(...)`` and ``interval(...)``, by a metric of the val split.

    Trials are asked for in batches of ``launcher.jobs`` and told in order, so that the same command asks for the same
    trials again and finds those that are finished.
    """

    trials: int = 20
    metric: str = "val/ctr/auc"
    direction: str = "maximize"
    sampler: str = "tpe"
    search_seed: int = 0

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
