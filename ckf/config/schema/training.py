"""Pre-training, fine-tuning, evaluation, and what stands around a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, fraction, one_of
from ckf.core.errors import Problem


@dataclass
class PretrainConfig:
    """How the tiny backbone is trained from nothing; its seed is its own, since a backbone is given, not swept."""

    steps: int = 500
    batch_size: int = 32
    length_tokens: int = 128
    learning_rate: float = 5e-3
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from at_least("steps", self.steps, 3)  # its schedule rises and falls
        for name in ("batch_size", "length_tokens"):
            yield from at_least(name, getattr(self, name), 1)


@dataclass
class TrainConfig:
    """Fine-tuning. ``max_steps`` (optimizer steps) wins over ``epochs`` (passes over the largest task).

    ``workers``: processes that prepare batches beside the one that trains; null is one where there is a core for it.
    """

    epochs: float = 3.0
    max_steps: int | None = None
    global_batch_size: int = 64
    accumulation_steps: int = 1
    learning_rate: float = 3e-3
    fusion_learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    adam_eps: float = 1e-6
    warmup_fraction: float = 0.05
    schedule: str = "linear"
    gradient_clip: float = 1.0
    max_length_tokens: int = 2048
    length_buckets: int = 4
    log_every_steps: int = 10
    checkpoint_every_steps: int = 200
    gradient_checkpointing: bool = False
    workers: int | None = None

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        if self.epochs <= 0:
            yield Problem("epochs", f"must be above 0, got {self.epochs:g}")
        for name in (
            "max_steps", "global_batch_size", "accumulation_steps", "length_buckets", "log_every_steps",
            "checkpoint_every_steps",
        ):  # fmt: skip
            yield from at_least(name, getattr(self, name), 1)
        yield from at_least("max_length_tokens", self.max_length_tokens, 16)
        yield from at_least("workers", self.workers, 0)
        yield from one_of("schedule", self.schedule, ("linear", "cosine", "constant"))
        yield from fraction("warmup_fraction", self.warmup_fraction)
        for name in ("learning_rate", "fusion_learning_rate"):
            if getattr(self, name) <= 0:
                yield Problem(name, f"must be above 0, got {getattr(self, name):g}")


PROTOCOLS = ("slots", "generate", "constrained")


@dataclass
class EvaluateConfig:
    """Scoring. ``max_examples`` keeps a named-random subset of each task and stamps the result.

    ``candidate_source=file`` answers the lists of ``candidate_file``. ``candidate_source=all`` ranks the
    whole catalogue besides: ``retrieval`` (the CF model's vectors, or the slots' match with the last hidden
    state) orders it, and the
    language model orders the first ``rerank_items`` anew. ``protocols`` are further ways to answer the lists:
    ``slots`` (match), ``generate`` (greedy, free) and ``constrained`` (greedy among the candidates' titles).
    ``length_normalisation=mean`` divides a title's log-probability by its tokens. Reviews are written with at
    most ``max_new_tokens`` tokens: greedily, or ``sampled`` at ``temperature`` with ``generation_seed``.
    """

    splits: list[str] = field(default_factory=lambda: ["test"])
    batch_size: int = 128
    max_examples: int | None = None
    bootstrap_samples: int = 1000
    candidate_source: str = "listed"
    candidate_file: str | None = None
    retrieval: str = "cf"
    rerank_items: int = 100
    protocols: list[str] = field(default_factory=list)
    length_normalisation: str = "none"
    decoding: str = "greedy"
    max_new_tokens: int = 64
    generation_seed: int = 0
    temperature: float = 1.0

    def problems(self) -> Iterator[Problem]:
        """Check ranges and split names."""
        yield from at_least("batch_size", self.batch_size, 1)
        yield from at_least("max_examples", self.max_examples, 1)
        yield from at_least("bootstrap_samples", self.bootstrap_samples, 10)
        yield from at_least("rerank_items", self.rerank_items, 2)
        yield from at_least("max_new_tokens", self.max_new_tokens, 1)
        yield from at_least("generation_seed", self.generation_seed, 0)
        yield from one_of("candidate_source", self.candidate_source, ("listed", "all", "file"))
        if self.candidate_file is not None and not self.candidate_file.endswith(".parquet"):
            yield Problem("candidate_file", f"'{self.candidate_file}' is no Parquet file, e.g. lists.parquet")
        if (self.candidate_source == "file") != (self.candidate_file is not None):
            yield (
                Problem(
                    "candidate_source",
                    f"'{self.candidate_source}' with candidate_file={self.candidate_file or 'null'}; "
                    "lists of your own need candidate_source=file and candidate_file=lists.parquet",
                )
            )
        yield from one_of("retrieval", self.retrieval, ("cf", "slots"))
        yield from one_of("length_normalisation", self.length_normalisation, ("none", "mean"))
        yield from one_of("decoding", self.decoding, ("greedy", "sampled"))
        if self.temperature <= 0:
            yield Problem(
                "temperature", f"must be above 0, got {self.temperature:g} (decoding=greedy takes the best token)"
            )
        for protocol in self.protocols:
            yield from one_of("protocols", protocol, PROTOCOLS)
        for split in self.splits:
            yield from one_of("splits", split, ("val", "test"))
        if not self.splits:
            yield Problem("splits", "is empty; e.g. [test]")


@dataclass
class TrainerConfig:
    """Arguments of Lightning's Trainer; ``_target_`` may name a subclass."""

    _target_: str = "pytorch_lightning.Trainer"
    accelerator: str = "cpu"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"

    def problems(self) -> Iterator[Problem]:
        """Check ranges and names."""
        yield from at_least("devices", self.devices, 1)
        yield from at_least("num_nodes", self.num_nodes, 1)
        yield from one_of("strategy", self.strategy, ("auto", "ddp", "fsdp"))
        yield from one_of("precision", self.precision, ("32-true", "bf16-mixed"))
        yield from one_of("accelerator", self.accelerator, ("cpu", "gpu", "auto"))

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return self.devices * self.num_nodes


@dataclass
class LoggerConfig:
    """Arguments of a Lightning logger; metrics always go to ``metrics.jsonl`` as well."""

    _target_: str = MISSING


@dataclass
class WandbConfig(LoggerConfig):
    """Weights & Biases; ``mode=auto`` is online with a login and offline without one, never a prompt."""

    project: str = "ckf"
    entity: str | None = None
    group: str | None = None
    mode: str = "auto"

    def problems(self) -> Iterator[Problem]:
        """Check the mode."""
        yield from one_of("mode", self.mode, ("auto", "online", "offline", "disabled"))


@dataclass
class CSVConfig(LoggerConfig):
    """Lightning's CSV logger."""


@dataclass
class MethodConfig:
    """The named preset: a published method as a choice of the groups above."""

    name: str = MISSING
    paper: str = ""


@dataclass
class PerturbationConfig:
    """What is spoiled on purpose, in training and in scoring alike (experiments/robustness); nothing unless set.

    ``vectors``: Gaussian noise on CF vectors, in units of each dimension's spread over the trained rows. ``titles``:
    share of the words of every title in a prompt that are replaced by words of other titles. ``shuffled_history``: the
    titles of a history in a random order. Drawn by ``perturbation_seed``, what it is for and the id.
    """

    vectors: float = 0.0
    titles: float = 0.0
    shuffled_history: bool = False
    perturbation_seed: int = 0

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from at_least("vectors", self.vectors, 0)
        yield from fraction("titles", self.titles)
        yield from at_least("perturbation_seed", self.perturbation_seed, 0)


@dataclass
class BaselinesConfig:
    """Rows trained and reported beside the model."""

    text_only: bool = True


@dataclass
class PathsConfig:
    """Where artifacts and runs go. Relative paths count from the working directory."""

    cache: str = "cache"
    outputs: str = "outputs"
