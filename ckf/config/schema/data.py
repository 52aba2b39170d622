"""Datasets, splits, tasks and prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.checks import at_least, fraction, one_of

TASKS = ("ctr", "rating", "topk", "explain")
SLOTS = ("user", "item", "pair", "soft")
"""Kinds of slots: positions of a prompt whose embeddings come from the fusion."""
CODES = ("user_code", "item_code")
"""Placeholders for hashed CF vectors written as text."""


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
    """The two prompts of a task and its answer. ``text`` is text alone; ``slots`` has slots or codes as well."""

    text: str = MISSING
    slots: str = MISSING
    answer: str = MISSING


@dataclass
class PromptsConfig:
    """Wording. Placeholders: {history} {candidate} {candidates} {review}; slots: <user> <item> <pair> <soft>.

    The prompt called ``slots`` may hold the codes {user_code} {item_code} as well; {<pair>candidates}
    puts a slot before each title of the list. Which slots it holds decides what the fusion computes.
    """

    separator: str = "; "
    empty_history: str = "nothing yet"
    ctr: PromptConfig = field(default_factory=PromptConfig)
    rating: PromptConfig = field(default_factory=PromptConfig)
    topk: PromptConfig = field(default_factory=PromptConfig)
    explain: PromptConfig = field(default_factory=PromptConfig)

    def problems(self) -> Iterator[str]:
        """Each placeholder and slot must be known, there where needed and absent where it may not be."""
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
                found = set(re.findall(r"\{(?:<\w+>)*(\w*)\}", wording))
                mine = allowed[task] | (set(CODES) if kind == "slots" else set())
                for name in sorted(found - mine):
                    known = ", ".join(sorted(mine))
                    yield f"{task}.{kind}: unknown placeholder {{{name}}}; allowed: {known}"
                if needed[task] not in found:
                    yield f"{task}.{kind}: the placeholder {{{needed[task]}}} is missing"
                slots = set(re.findall(r"<(\w+)>", wording))
                for name in sorted(slots - set(SLOTS)):
                    yield f"{task}.{kind}: unknown slot <{name}>; allowed: {', '.join(f'<{slot}>' for slot in SLOTS)}"
                for name in re.findall(r"\{(?:<\w+>)+(\w*)\}", wording):
                    if name != "candidates":
                        yield f"{task}.{kind}: {{{name}}} takes no slots inside; only {{candidates}} does"
                if kind == "text" and slots & set(SLOTS):
                    yield f"{task}.text: the text-only prompt may hold no slot"
                if kind == "slots" and not slots & set(SLOTS) and not found & set(CODES):
                    yield f"{task}.slots: holds no slot and no code; add e.g. <user><item>"
            if not prompt.answer.strip():
                yield f"{task}.answer: is empty; e.g. ' {{label}}'"
            elif "{label}" not in prompt.answer:
                yield f"{task}.answer: must hold {{label}}, got '{prompt.answer}'"
