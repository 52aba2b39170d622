"""Pre-training, fine-tuning, evaluation, and the settings of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, fraction, one_of
from ckf.core.errors import Problem


@dataclass
class PretrainConfig:
    """How the tiny backbone is trained from nothing."""

    steps: int = 500
    """Optimizer steps, at least 3."""
    batch_size: int = 32
    """Sequences of a step."""
    length_tokens: int = 128
    """Tokens of a sequence."""
    learning_rate: float = 5e-3
    """Highest learning rate."""
    seed: int = 0
    """Seed of weights and batches. It is its own, since a backbone is given and not swept."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from at_least("steps", self.steps, 3)  # its schedule rises and falls
        for name in ("batch_size", "length_tokens"):
            yield from at_least(name, getattr(self, name), 1)


@dataclass
class TrainConfig:
    """Fine-tuning."""

    epochs: float = 3.0
    """Passes over the largest task."""
    max_steps: int | None = None
    """Optimizer steps. It wins over ``epochs``."""
    global_batch_size: int = 64
    """Examples of an optimizer step, over all devices."""
    accumulation_steps: int = 1
    """Parts of a step that go through one after another, to save memory."""
    learning_rate: float = 3e-3
    """Learning rate of the adapters. The default is for the tiny backbone."""
    fusion_learning_rate: float = 1e-2
    """Learning rate of the fusion, which starts from nothing and so takes a higher one."""
    weight_decay: float = 1e-3
    """AdamW's weight decay."""
    adam_eps: float = 1e-6
    """Adam's epsilon."""
    warmup_fraction: float = 0.05
    """Share of the steps in which the learning rate rises from 0."""
    schedule: str = "linear"
    """Learning rate after the warm-up: a ``linear`` or ``cosine`` fall to 0, or ``constant``."""
    gradient_clip: float = 1.0
    """Longest gradient of a step, as a Euclidean norm."""
    max_length_tokens: int = 2048
    """Longest prompt. The oldest items of a longer one's history are left out."""
    length_buckets: int = 4
    """Groups by length that a batch is cut into, so that less is padded."""
    log_every_steps: int = 10
    """Steps between two lines of training metrics."""
    checkpoint_every_steps: int = 200
    """Steps between two checkpoints to resume from."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass, to save memory."""
    workers: int | None = None
    """Processes that prepare batches while another trains. null is one where there is a core for it."""

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
    """Scoring."""

    splits: list[str] = field(default_factory=lambda: ["test"])
    """Splits to score: ``val``, ``test`` or both."""
    batch_size: int = 128
    """Rows of a forward pass."""
    max_examples: int | None = None
    """Most examples of each task, a fixed random subset. null scores all; results of a subset are marked."""
    diagnostics_examples: int = 400
    """Val examples of each task that fusion diagnostics score, up to four times each. 0 leaves the diagnostics out."""
    bootstrap_samples: int = 1000
    """Resamples of users for the 95% intervals."""
    candidate_source: str = "listed"
    """``listed`` ranks the dataset's candidate lists, ``file`` those of ``candidate_file``. ``all`` also ranks the
    whole catalogue."""
    candidate_file: str | None = None
    """Parquet file of your own candidate lists."""
    retrieval: str = "cf"
    """What orders the whole catalogue: the ``cf`` model's vectors, or the match of ``slots`` with the last hidden
    state."""
    rerank_items: int = 100
    """First items of the catalogue's order that the language model orders again."""
    protocols: list[str] = field(default_factory=list)
    """Further ways to answer the lists: ``slots`` (match), ``generate`` (greedy, free) and ``constrained`` (greedy
    among the candidates' titles)."""
    length_normalisation: str = "none"
    """``mean`` divides a title's log-probability by its tokens. ``none`` does not."""
    decoding: str = "greedy"
    """How reviews are written: ``greedy``, or ``sampled`` at ``temperature``."""
    max_new_tokens: int = 64
    """Most tokens of a written review."""
    generation_seed: int = 0
    """Seed of ``decoding=sampled``."""
    temperature: float = 1.0
    """Temperature of ``decoding=sampled``."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges and split names."""
        yield from at_least("batch_size", self.batch_size, 1)
        yield from at_least("max_examples", self.max_examples, 1)
        yield from at_least("diagnostics_examples", self.diagnostics_examples, 0)
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
    """Arguments of Lightning's Trainer."""

    _target_: str = "pytorch_lightning.Trainer"
    """Class of the trainer. It may be a subclass."""
    accelerator: str = "cpu"
    """``cpu``, ``gpu`` or ``auto``."""
    devices: int = 1
    """Devices of each node."""
    num_nodes: int = 1
    """Machines that train together."""
    strategy: str = "auto"
    """``auto``, ``ddp``, or ``fsdp`` (frozen decoder layers are cut over the processes)."""
    precision: str = "32-true"
    """``32-true`` or ``bf16-mixed``."""

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
    """Class of the logger."""


@dataclass
class WandbConfig(LoggerConfig):
    """Weights & Biases."""

    project: str = "ckf"
    """Project of the runs."""
    entity: str | None = None
    """User or team. null is your default."""
    group: str | None = None
    """Group of the runs. null is the config's ``name``."""
    mode: str = "auto"
    """``online``, ``offline``, ``disabled``, or ``auto``: online with a login, offline without one, never a prompt."""

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
    """The option's name."""
    paper: str = ""
    """Where the method was published."""


@dataclass
class PerturbationConfig:
    """Noise put in on purpose, in training and in scoring alike (experiments/robustness)."""

    vectors: float = 0.0
    """Gaussian noise on CF vectors, in units of each dimension's spread over the trained rows."""
    titles: float = 0.0
    """Share of the words of every title in a prompt that are replaced by words of other titles."""
    shuffled_history: bool = False
    """Whether the titles of a history are in a random order."""
    perturbation_seed: int = 0
    """Seed of the noise."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        yield from at_least("vectors", self.vectors, 0)
        yield from fraction("titles", self.titles)
        yield from at_least("perturbation_seed", self.perturbation_seed, 0)


@dataclass
class BaselinesConfig:
    """Baselines that are trained and reported with the model."""

    text_only: bool = True
    """Whether the text-only baseline is trained too: the same adapters without CF knowledge."""


@dataclass
class PathsConfig:
    """Where artifacts and runs go. Relative paths count from the working directory."""

    cache: str = "cache"
    """Folder of prepared data, CF models and backbones."""
    outputs: str = "outputs"
    """Folder of the runs and sweeps."""
