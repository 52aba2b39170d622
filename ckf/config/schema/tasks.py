"""Tasks, their mix, and the wording of their prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, one_of
from ckf.core.errors import ConfigError, Problem
from ckf.tasks import BUILT_IN, Task, load_task
from ckf.tasks.base import Wording
from ckf.tasks.review import Review

SlotKind = Literal["user", "item", "pair", "soft"]
SLOTS: tuple[SlotKind, ...] = get_args(SlotKind)
"""Kinds of slots: positions of a prompt whose embeddings come from the fusion."""
CODES = ("user_code", "item_code")
"""Placeholders for hashed CF vectors written as text."""


@dataclass
class TaskConfig:
    """One task of the mix."""

    name: str = MISSING
    """Name of a built-in task, or a name of its own for ``target``."""
    weight: float = 1.0
    """Share of every batch, relative to the other tasks."""
    target: str | None = None
    """A task of your own, a subclass of ``ckf.tasks.base.Task`` as ``module.Class``. Runs are named by this name, not
    by its code: give changed code another name."""

    def problems(self) -> Iterator[Problem]:
        """Check the task and the weight."""
        if self.target is None:
            yield from one_of("name", self.name, tuple(BUILT_IN))
        else:
            yield from self._target_problems()
        if self.weight <= 0:
            yield Problem("weight", f"must be above 0, got {self.weight:g} (leave a task out by not listing it)")

    def _target_problems(self) -> Iterator[Problem]:
        if not self.name.isidentifier() or (self.name not in BUILT_IN and hasattr(PromptsConfig(), self.name)):
            yield Problem(
                "name", f"'{self.name}' cannot name a task; use a word of letters, digits and _, e.g. return_visit"
            )
            return
        try:
            task = self.task
        except ConfigError as error:
            yield from error.problems
            return
        yield from wording_problems(f"wording of {self.target}", task, PromptConfig.default(task.wording))

    @property
    def task(self) -> Task:
        """The task itself.

        Raises:
            ConfigError: there is none of this name, or the target is none.
        """
        return load_task(self.name, self.target)

    @property
    def known_task(self) -> Task | None:
        """The task, or None where there is none."""
        try:
            return self.task
        except ConfigError:
            return None


@dataclass
class TasksConfig:
    """Which tasks are trained and evaluated, and how their examples are made."""

    mixture: list[TaskConfig] = field(default_factory=list)
    """The tasks and their weights. Empty takes every task that the data supports."""
    history_items: int = 10
    """Most items of a history in a prompt."""
    candidates: int = 10
    """Items of a candidate list."""
    review_words: int = 100
    """Words of a review that a prompt shows. The rest is cut."""
    negatives_seed: int = 0
    """Seed of the candidate lists' negatives. It is its own, so that all runs rank the same lists."""
    history_same_timestamp: str = "auto"
    """Whether a history may hold items of the target's own second: ``exclude``, ``keep``, or ``auto`` (keep only where
    the source brings its histories)."""
    negatives: str = "uniform"
    """Negatives of a candidate list are drawn by ``uniform`` chance or by training ``popularity``."""
    protocol: str = "strict"
    """``strict``, or ``released`` for the choices of the released code. Results of ``released`` are marked."""

    def problems(self) -> Iterator[Problem]:
        """Check counts and that no task occurs twice."""
        yield from at_least("history_items", self.history_items, 1)
        yield from at_least("candidates", self.candidates, 2)
        yield from at_least("review_words", self.review_words, 1)
        yield from one_of("history_same_timestamp", self.history_same_timestamp, ("auto", "exclude", "keep"))
        yield from one_of("negatives", self.negatives, ("uniform", "popularity"))
        yield from one_of("protocol", self.protocol, ("strict", "released"))
        if self.protocol == "released" and self.negatives != "uniform":
            yield Problem("negatives", f"'{self.negatives}', but protocol=released draws uniformly; use uniform")
        names = [task.name for task in self.mixture]
        for name in sorted({n for n in names if names.count(n) > 1}):
            yield Problem("mixture", f"task '{name}' is listed {names.count(name)} times")


@dataclass
class PromptConfig:
    """The two prompts of a task and its answer."""

    text: str = MISSING
    """The prompt of the text stream. It holds no slots."""
    slots: str = MISSING
    """The prompt of the CF stream, with slots or codes."""
    answer: str = MISSING
    """The answer, with {label} in it."""

    @classmethod
    def default(cls, wording: Wording) -> PromptConfig:
        """The wording that a task brings."""
        return cls(wording.text, wording.slots, wording.answer)


@dataclass
class PromptsConfig:
    """Wording. Placeholders: {history} {candidate} {candidates} {review} {rating}; slots: <user> <item> <pair> <soft>.

    The prompt called ``slots`` may hold the codes {user_code} {item_code} as well; {<item>candidates<pair>}
    puts slots before and after each title of the list. Which slots it holds decides what the fusion computes.
    {candidates?} asks about the candidates one by one: each title is followed by a question mark and answered
    there, Yes or No, and the list is ordered by the probability of Yes instead of that of the titles.
    """

    separator: str = "; "
    """Between two items of a list."""
    empty_history: str = "nothing yet"
    """In place of an empty history."""
    ctr: PromptConfig = field(default_factory=PromptConfig)
    """Wording of the task ``ctr``."""
    rating: PromptConfig = field(default_factory=PromptConfig)
    """Wording of the task ``rating``."""
    topk: PromptConfig = field(default_factory=PromptConfig)
    """Wording of the task ``topk``."""
    explain: PromptConfig = field(default_factory=PromptConfig)
    """Wording of the task ``explain``."""
    review: PromptConfig = field(default_factory=lambda: PromptConfig.default(Review.wording))
    """Wording of the task ``review``."""

    def of(self, task: Task) -> PromptConfig:
        """The wording of a task: as configured, or, of a user's own task, as the task brings it."""
        configured = getattr(self, task.worded_as or task.name, None)
        return configured if isinstance(configured, PromptConfig) else PromptConfig.default(task.wording)

    def problems(self) -> Iterator[Problem]:
        """Check each task's wording."""
        for name, task in BUILT_IN.items():
            if task.worded_as is None:
                yield from wording_problems(name, task, self.of(task))


def wording_problems(key: str, task: Task, prompt: PromptConfig) -> Iterator[Problem]:
    """Each placeholder and slot must be known, there where needed and absent where it may not be."""
    for kind in ("text", "slots"):
        wording = getattr(prompt, kind)
        found = set(re.findall(r"\{(?:<\w+>)*(\w*)(?:<\w+>)*\??\}", wording))
        allowed = {*task.placeholders, *(CODES if kind == "slots" else ())}
        for name in sorted(found - allowed):
            yield Problem(f"{key}.{kind}", f"unknown placeholder {{{name}}}; allowed: {', '.join(sorted(allowed))}")
        if task.required not in found:
            yield Problem(f"{key}.{kind}", f"the placeholder {{{task.required}}} is missing")
        slots = set(re.findall(r"<(\w+)>", wording))
        for name in sorted(slots - set(SLOTS)):
            yield Problem(
                f"{key}.{kind}", f"unknown slot <{name}>; allowed: {', '.join(f'<{slot}>' for slot in SLOTS)}"
            )
        for before, name, after, mark in re.findall(r"\{((?:<\w+>)*)(\w*)((?:<\w+>)*)(\??)\}", wording):
            if name != "candidates" and (before or after or mark):
                inside = "question mark" if mark else "slots"
                yield Problem(f"{key}.{kind}", f"{{{name}}} takes no {inside} inside; only {{candidates}} does")
        if kind == "text" and slots & set(SLOTS):
            yield Problem(f"{key}.text", "the text-only prompt may hold no slot")
        if kind == "slots" and not slots & set(SLOTS) and not found & set(CODES):
            yield Problem(f"{key}.slots", "holds no slot and no code; add e.g. <user><item>")
    if not prompt.answer.strip():
        yield Problem(f"{key}.answer", "is empty; e.g. ' {label}'")
    elif "{label}" not in prompt.answer:
        yield Problem(f"{key}.answer", f"must hold {{label}}, got '{prompt.answer}'")
