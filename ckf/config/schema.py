"""Every setting of ckf as a typed field; one dataclass for each option of each config group.

Values live in ``conf/``; this file says which keys exist, their types and units, and which values
make sense. ``problems()`` yields one line for each fault of a node (rules across groups: `rules.py`).
It is not ``__post_init__`` because that would not run on composed values. No heavy imports here:
a refused config must answer in well under three seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

TASKS = ("ctr", "rating", "topk", "explain")


def at_least(name: str, value: float | None, low: float) -> Iterator[str]:
    """Yield a problem line when ``value`` is set and below ``low``."""
    if value is not None and value < low:
        yield f"{name}: must be at least {low:g}, got {value:g}"


def fraction(name: str, value: float, *, open_top: bool = False) -> Iterator[str]:
    """Yield a problem line when ``value`` is outside [0, 1] (or [0, 1) with ``open_top``)."""
    if not 0 <= value <= 1 or (open_top and value == 1):
        yield f"{name}: must be a fraction from 0 to {'below ' if open_top else ''}1, got {value:g}"


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> Iterator[str]:
    """Yield a problem line when ``value`` is not one of ``allowed``."""
    if value not in allowed:
        yield f"{name}: '{value}' is not allowed; one of {', '.join(allowed)}"


# --- dataset and split ------------------------------------------------------------------------


@dataclass
class DatasetConfig:
    """A source of interactions. ``provides`` lists the tasks its columns can serve.

    ``default_steps`` is what ``train.max_steps`` is unless set; null means by ``train.epochs``.
    """

    name: str = MISSING
    provides: list[str] = field(default_factory=list)
    default_steps: int | None = None


@dataclass
class SyntheticConfig(DatasetConfig):
    """Planted users and items (DESIGN section 6): sizes, strengths (in logits) and the data's own seed."""

    users: int = 1000
    items: int = 300
    interactions_per_user: int = 60
    data_seed: int = 0
    topics: int = 8
    hidden_dims: int = 2
    text_strength: float = 1.8
    hidden_strength: float = 1.5
    bias_strength: float = 0.7
    late_fraction: float = 0.05

    def problems(self) -> Iterator[str]:
        """Sizes below which a split or a candidate list cannot be made."""
        yield from at_least("users", self.users, 20)
        yield from at_least("items", self.items, 30)
        yield from at_least("interactions_per_user", self.interactions_per_user, 5)
        yield from at_least("topics", self.topics, 2)
        yield from at_least("hidden_dims", self.hidden_dims, 1)
        yield from fraction("late_fraction", self.late_fraction, open_top=True)
        if self.interactions_per_user > self.items // 2:
            yield (
                f"interactions_per_user: must be at most half of dataset.items ({self.items}), "
                f"got {self.interactions_per_user}"
            )


@dataclass
class CollmConfig(DatasetConfig):
    """CoLLM's pickled split: ``root`` holds train_ood2.pkl, valid_ood2.pkl and test_ood2.pkl."""

    root: str = MISSING


@dataclass
class SplitConfig:
    """How interactions become train, val and test."""

    name: str = MISSING
    val_fraction: float = 0.1
    test_fraction: float = 0.1

    def problems(self) -> Iterator[str]:
        """Check names and fractions."""
        yield from one_of("name", self.name, ("provided", "temporal", "leave_last_out"))
        yield from fraction("val_fraction", self.val_fraction, open_top=True)
        yield from fraction("test_fraction", self.test_fraction, open_top=True)
        if self.val_fraction + self.test_fraction >= 1:
            yield (
                f"val_fraction: with test_fraction it leaves no training data "
                f"({self.val_fraction:g} + {self.test_fraction:g})"
            )


# --- collaborative filtering ------------------------------------------------------------------


@dataclass
class CFConfig:
    """A collaborative-filtering model."""

    name: str = MISSING

    @property
    def has_vectors(self) -> bool:
        """Whether the model has user and item vectors that a fusion can read."""
        return False


@dataclass
class BiasConfig(CFConfig):
    """Item mean + user mean, each shrunk towards the global mean with ``pseudo_counts`` (the floor)."""

    pseudo_counts: float = 5.0

    def problems(self) -> Iterator[str]:
        """Shrinkage cannot be negative."""
        yield from at_least("pseudo_counts", self.pseudo_counts, 0)


@dataclass
class MFConfig(CFConfig):
    """Matrix factorisation with biases, early-stopped on the validation split."""

    dim: int = 8
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    embedding_l2: float = 0.1
    epochs: int = 60
    patience_epochs: int = 6
    batch_size: int = 1024

    @property
    def has_vectors(self) -> bool:
        """MF has vectors."""
        return True

    def problems(self) -> Iterator[str]:
        """Ranges of the numbers."""
        yield from at_least("dim", self.dim, 1)
        yield from at_least("epochs", self.epochs, 1)
        yield from at_least("patience_epochs", self.patience_epochs, 1)
        yield from at_least("batch_size", self.batch_size, 1)
        yield from at_least("embedding_l2", self.embedding_l2, 0)


# --- language model ---------------------------------------------------------------------------


@dataclass
class BackboneConfig:
    """A causal language model, frozen."""

    name: str = MISSING
    dtype: str = "float32"

    def problems(self) -> Iterator[str]:
        """Check the dtype."""
        yield from one_of("dtype", self.dtype, ("float32", "bfloat16"))


@dataclass
class TinyBackboneConfig(BackboneConfig):
    """A small Llama with its own BPE vocabulary, pre-trained here on the training split's text."""

    hidden_size: int = 64
    layers: int = 2
    heads: int = 2
    intermediate_size: int = 192
    vocabulary: int = 3000

    def problems(self) -> Iterator[str]:
        """Check the shape."""
        yield from super().problems()
        for name in ("hidden_size", "layers", "heads", "intermediate_size"):
            yield from at_least(name, getattr(self, name), 1)
        yield from at_least("vocabulary", self.vocabulary, 300)
        if self.heads > 0 and self.hidden_size % (2 * self.heads):
            yield f"hidden_size: must be a multiple of 2 * heads ({2 * self.heads}), got {self.hidden_size}"


@dataclass
class HFBackboneConfig(BackboneConfig):
    """Any local folder or hub name that ``transformers`` can load as a causal language model."""

    path: str = MISSING
    revision: str | None = None
    trust_remote_code: bool = False
    attention: str = "sdpa"

    def problems(self) -> Iterator[str]:
        """Candidate scoring needs an attention that takes a mask."""
        yield from super().problems()
        yield from one_of("attention", self.attention, ("sdpa", "eager"))


@dataclass
class NoBackboneConfig(BackboneConfig):
    """No language model: the CF model's own predictions are the method."""


@dataclass
class LoraRoleConfig:
    """One role's adapters. Values left null are inherited from the ``lora`` node."""

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: list[str] = field(default_factory=list)

    def problems(self) -> Iterator[str]:
        """Check ranges."""
        yield from at_least("rank", self.rank, 1)
        if self.alpha is not None and self.alpha <= 0:
            yield f"alpha: must be above 0, got {self.alpha:g}"
        if self.dropout is not None:
            yield from fraction("dropout", self.dropout, open_top=True)
        if not self.target_modules:
            yield "target_modules: is empty; name at least one projection, e.g. [q_proj]"


@dataclass
class LoraConfig:
    """Low-rank adapters: a ``shared`` role for all tasks and a ``per_task`` role, one copy for each task."""

    name: str = MISSING
    rank: int = 16
    alpha: float = 64.0
    dropout: float = 0.0
    shared: LoraRoleConfig | None = None
    per_task: LoraRoleConfig | None = None

    def problems(self) -> Iterator[str]:
        """Check ranges, and that roles on one projection agree on dropout (they share its mask)."""
        yield from at_least("rank", self.rank, 1)
        if self.alpha <= 0:
            yield f"alpha: must be above 0, got {self.alpha:g}"
        yield from fraction("dropout", self.dropout, open_top=True)
        if self.shared and self.per_task:
            both = set(self.shared.target_modules) & set(self.per_task.target_modules)
            rates = {
                role.dropout if role.dropout is not None else self.dropout for role in (self.shared, self.per_task)
            }
            if both and len(rates) > 1:
                shared = ", ".join(sorted(both))
                yield f"per_task.dropout: must equal shared.dropout, since both roles adapt {shared}"

    @property
    def trains(self) -> bool:
        """Whether there is any adapter."""
        return self.shared is not None or self.per_task is not None


# --- fusion and curriculum --------------------------------------------------------------------


@dataclass
class FusionConfig:
    """How CF vectors become slot embeddings."""

    name: str = MISSING
    tokens_per_slot: int = 1
    dropout: float = 0.0

    @property
    def fuses(self) -> bool:
        """Whether prompts have slots."""
        return True

    def problems(self) -> Iterator[str]:
        """Check ranges."""
        yield from at_least("tokens_per_slot", self.tokens_per_slot, 1)
        yield from fraction("dropout", self.dropout, open_top=True)


@dataclass
class NoFusionConfig(FusionConfig):
    """Text alone."""

    @property
    def fuses(self) -> bool:
        """No slots."""
        return False


@dataclass
class LinearFusionConfig(FusionConfig):
    """One linear map for users and one for items."""


@dataclass
class MetaFusionConfig(FusionConfig):
    """CKF: a meta-network reads the history and emits the user's own matrix."""

    meta_hidden: int = 32

    def problems(self) -> Iterator[str]:
        """Check ranges."""
        yield from super().problems()
        yield from at_least("meta_hidden", self.meta_hidden, 1)


@dataclass
class RandomFusionConfig(MetaFusionConfig):
    """The control: the map of ``meta`` on vectors shuffled over users and over items."""


@dataclass
class CurriculumConfig:
    """Weights of the text and the CF stream over the steps, and who learns from which."""

    name: str = MISSING
    apply: str = "loss"
    steepness: float = 8.0

    def problems(self) -> Iterator[str]:
        """Check the names."""
        yield from one_of("name", self.name, ("sigmoid", "joint", "text_only"))
        yield from one_of("apply", self.apply, ("loss", "lr"))
        if self.steepness <= 0:
            yield f"steepness: must be above 0, got {self.steepness:g}"


# --- tasks and prompts ------------------------------------------------------------------------


@dataclass
class TaskConfig:
    """One task of the mix; its share of every batch is proportional to ``weight``."""

    name: str = MISSING
    weight: float = 1.0

    def problems(self) -> Iterator[str]:
        """Check the name and the weight."""
        yield from one_of("name", self.name, TASKS)
        if self.weight <= 0:
            yield f"weight: must be above 0, got {self.weight:g} (leave a task out by not listing it)"


@dataclass
class TasksConfig:
    """Which tasks are trained and evaluated. ``mix=[]`` (tasks=auto): every task the data provides."""

    mix: list[TaskConfig] = field(default_factory=list)
    history_items: int = 10
    candidates: int = 10
    review_words: int = 100
    negatives_seed: int = 0

    def problems(self) -> Iterator[str]:
        """Check counts and that no task stands twice."""
        yield from at_least("history_items", self.history_items, 1)
        yield from at_least("candidates", self.candidates, 2)
        yield from at_least("review_words", self.review_words, 1)
        names = [task.name for task in self.mix]
        for name in sorted({n for n in names if names.count(n) > 1}):
            yield f"mix: task '{name}' is listed {names.count(name)} times"


@dataclass
class PromptConfig:
    """The two prompts of a task and its answer. ``text`` has no slots; ``slots`` has <user> and/or <item>."""

    text: str = MISSING
    slots: str = MISSING
    answer: str = MISSING


@dataclass
class PromptsConfig:
    """Wording. Placeholders: {history} {candidate} {candidates} {review}; slots: <user> <item>."""

    separator: str = "; "
    empty_history: str = "nothing yet"
    ctr: PromptConfig = field(default_factory=PromptConfig)
    rating: PromptConfig = field(default_factory=PromptConfig)
    topk: PromptConfig = field(default_factory=PromptConfig)
    explain: PromptConfig = field(default_factory=PromptConfig)

    def problems(self) -> Iterator[str]:
        """Each placeholder and slot must be known, there where needed and absent where it may not be."""
        import re

        needed = {"ctr": "candidate", "rating": "candidate", "topk": "candidates", "explain": "review"}
        allowed = {
            "ctr": {"history", "candidate"},
            "rating": {"history", "candidate"},
            "topk": {"history", "candidates"},
            "explain": {"review", "candidate"},
        }
        for task in TASKS:
            prompt: PromptConfig = getattr(self, task)
            for kind in ("text", "slots"):
                wording = getattr(prompt, kind)
                found = set(re.findall(r"\{(\w*)\}", wording))
                for name in sorted(found - allowed[task]):
                    known = ", ".join(sorted(allowed[task]))
                    yield f"{task}.{kind}: unknown placeholder {{{name}}}; allowed: {known}"
                if needed[task] not in found:
                    yield f"{task}.{kind}: the placeholder {{{needed[task]}}} is missing"
                slots = set(re.findall(r"<(\w+)>", wording))
                for name in sorted(slots - {"user", "item"}):
                    yield f"{task}.{kind}: unknown slot <{name}>; allowed: <user>, <item>"
                if kind == "text" and slots & {"user", "item"}:
                    yield f"{task}.text: the text-only prompt may hold no slot"
                if kind == "slots" and "item" not in slots and task != "topk":
                    yield f"{task}.slots: the slot <item> is missing"
            if not prompt.answer.strip():
                yield f"{task}.answer: is empty; e.g. ' {{label}}'"
            elif "{label}" not in prompt.answer:
                yield f"{task}.answer: must hold {{label}}, got '{prompt.answer}'"


# --- training, evaluation, surroundings -------------------------------------------------------


@dataclass
class PretrainConfig:
    """How the tiny backbone is trained from nothing; its seed is its own, since a backbone is given, not swept."""

    steps: int = 500
    batch_size: int = 32
    length_tokens: int = 128
    learning_rate: float = 5e-3
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """Check ranges."""
        for name in ("steps", "batch_size", "length_tokens"):
            yield from at_least(name, getattr(self, name), 1)


@dataclass
class TrainConfig:
    """Fine-tuning. ``max_steps`` (optimizer steps) wins over ``epochs`` (passes over the largest task)."""

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
    workers: int = 0

    def problems(self) -> Iterator[str]:
        """Check ranges."""
        if self.epochs <= 0:
            yield f"epochs: must be above 0, got {self.epochs:g}"
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
                yield f"{name}: must be above 0, got {getattr(self, name):g}"


@dataclass
class EvaluateConfig:
    """Scoring. ``max_examples`` keeps a named-random subset of each task and stamps the result."""

    splits: list[str] = field(default_factory=lambda: ["test"])
    batch_size: int = 128
    max_examples: int | None = None
    bootstrap_samples: int = 1000

    def problems(self) -> Iterator[str]:
        """Check ranges and split names."""
        yield from at_least("batch_size", self.batch_size, 1)
        yield from at_least("max_examples", self.max_examples, 1)
        yield from at_least("bootstrap_samples", self.bootstrap_samples, 10)
        for split in self.splits:
            yield from one_of("splits", split, ("val", "test"))
        if not self.splits:
            yield "splits: is empty; e.g. [test]"


@dataclass
class TrainerConfig:
    """Arguments of Lightning's Trainer; ``_target_`` may name a subclass."""

    _target_: str = "pytorch_lightning.Trainer"
    accelerator: str = "cpu"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"

    def problems(self) -> Iterator[str]:
        """Check ranges and names."""
        yield from at_least("devices", self.devices, 1)
        yield from at_least("num_nodes", self.num_nodes, 1)
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

    def problems(self) -> Iterator[str]:
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
class BaselinesConfig:
    """Rows trained and reported beside the model."""

    text: bool = True


@dataclass
class PathsConfig:
    """Where artifacts and runs go. Relative paths count from the working directory."""

    cache: str = "cache"
    outputs: str = "outputs"


@dataclass
class ExperimentConfig:
    """The whole of a run's configuration."""

    name: str = "main"
    seed: int = 0
    dataset: DatasetConfig = MISSING
    split: SplitConfig = MISSING
    cf: CFConfig = MISSING
    backbone: BackboneConfig = MISSING
    lora: LoraConfig = MISSING
    fusion: FusionConfig = MISSING
    tasks: TasksConfig = MISSING
    prompts: PromptsConfig = MISSING
    curriculum: CurriculumConfig = MISSING
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    method: MethodConfig = MISSING
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    force: bool = False

    def problems(self) -> Iterator[str]:
        """Rules across groups."""
        from ckf.config.rules import cross_group_problems

        yield from at_least("seed", self.seed, 0)
        yield from cross_group_problems(self)

    @property
    def task_mix(self) -> list[TaskConfig]:
        """The tasks of this run: as listed, or every task the dataset provides with weight 1."""
        return self.tasks.mix or [TaskConfig(name=task) for task in self.dataset.provides]
