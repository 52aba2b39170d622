"""Tasks, their mix, and the wording of their prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, one_of

TASKS = ("ctr", "rating", "topk", "explain")
"""Tasks with answers that can all be scored."""
WRITTEN = ("review",)
"""Tasks whose answer is text: trained as the others, written at evaluation. Only where the mix lists them."""
SlotKind = Literal["user", "item", "pair", "soft"]
SLOTS: tuple[SlotKind, ...] = get_args(SlotKind)
"""Kinds of slots: positions of a prompt whose embeddings come from the fusion."""
CODES = ("user_code", "item_code")
"""Placeholders for hashed CF vectors written as text."""


@dataclass
class TaskConfig:
    """One task of the mix; its share of every batch is proportional to ``weight``."""

    name: str = MISSING
    weight: float = 1.0

    def problems(self) -> Iterator[str]:
        """Check the name and the weight."""
        yield from one_of("name", self.name, (*TASKS, *WRITTEN))
        if self.weight <= 0:
            yield f"weight: must be above 0, got {self.weight:g} (leave a task out by not listing it)"


@dataclass
class TasksConfig:
    """Which tasks are trained and evaluated, and how their examples are made.

    ``mixture=[]`` (tasks=auto): every task the data provides. ``history_same_timestamp``: whether a history may hold
    items of the target's own second; ``auto``: only where the source brings its histories. ``negatives``: drawn
    uniformly or by training popularity. ``protocol=released`` makes the released code's choices and stamps
    every result.
    """

    mixture: list[TaskConfig] = field(default_factory=list)
    history_items: int = 10
    candidates: int = 10
    review_words: int = 100
    negatives_seed: int = 0
    history_same_timestamp: str = "auto"
    negatives: str = "uniform"
    protocol: str = "strict"

    def problems(self) -> Iterator[str]:
        """Check counts and that no task stands twice."""
        yield from at_least("history_items", self.history_items, 1)
        yield from at_least("candidates", self.candidates, 2)
        yield from at_least("review_words", self.review_words, 1)
        yield from one_of("history_same_timestamp", self.history_same_timestamp, ("auto", "exclude", "keep"))
        yield from one_of("negatives", self.negatives, ("uniform", "popularity"))
        yield from one_of("protocol", self.protocol, ("strict", "released"))
        if self.protocol == "released" and self.negatives != "uniform":
            yield f"negatives: '{self.negatives}', but protocol=released draws uniformly; use uniform"
        names = [task.name for task in self.mixture]
        for name in sorted({n for n in names if names.count(n) > 1}):
            yield f"mixture: task '{name}' is listed {names.count(name)} times"


@dataclass
class PromptConfig:
    """The two prompts of a task and its answer. ``text`` is text alone; ``slots`` has slots or codes as well."""

    text: str = MISSING
    slots: str = MISSING
    answer: str = MISSING


@dataclass
class PromptsConfig:
    """Wording. Placeholders: {history} {candidate} {candidates} {review} {rating}; slots: <user> <item> <pair> <soft>.

    The prompt called ``slots`` may hold the codes {user_code} {item_code} as well; {<item>candidates<pair>}
    puts slots before and after each title of the list. Which slots it holds decides what the fusion computes.
    {candidates?} asks the candidates one by one: each title is followed by a question mark and answered
    there, Yes or No, and the list is ordered by the probability of Yes instead of that of the titles.
    """

    separator: str = "; "
    empty_history: str = "nothing yet"
    ctr: PromptConfig = field(default_factory=PromptConfig)
    rating: PromptConfig = field(default_factory=PromptConfig)
    topk: PromptConfig = field(default_factory=PromptConfig)
    explain: PromptConfig = field(default_factory=PromptConfig)
    review: PromptConfig = field(
        default_factory=lambda: PromptConfig(
            "The user rated {candidate} {rating}.\nReview:",
            "The user rated {candidate}<user><item> {rating}.\nReview:",
            " {label}",
        )
    )

    def problems(self) -> Iterator[str]:
        """Each placeholder and slot must be known, there where needed and absent where it may not be."""
        needed = {
            "ctr": "candidate",
            "rating": "candidate",
            "topk": "candidates",
            "explain": "review",
            "review": "candidate",
        }
        allowed = {
            "ctr": {"history", "candidate"},
            "rating": {"history", "candidate"},
            "topk": {"history", "candidates"},
            "explain": {"review", "candidate"},
            "review": {"candidate", "rating"},
        }
        for task in (*TASKS, *WRITTEN):
            prompt: PromptConfig = getattr(self, task)
            for kind in ("text", "slots"):
                wording = getattr(prompt, kind)
                found = set(re.findall(r"\{(?:<\w+>)*(\w*)(?:<\w+>)*\??\}", wording))
                mine = allowed[task] | (set(CODES) if kind == "slots" else set())
                for name in sorted(found - mine):
                    known = ", ".join(sorted(mine))
                    yield f"{task}.{kind}: unknown placeholder {{{name}}}; allowed: {known}"
                if needed[task] not in found:
                    yield f"{task}.{kind}: the placeholder {{{needed[task]}}} is missing"
                slots = set(re.findall(r"<(\w+)>", wording))
                for name in sorted(slots - set(SLOTS)):
                    yield f"{task}.{kind}: unknown slot <{name}>; allowed: {', '.join(f'<{slot}>' for slot in SLOTS)}"
                for before, name, after, mark in re.findall(r"\{((?:<\w+>)*)(\w*)((?:<\w+>)*)(\??)\}", wording):
                    if name != "candidates" and (before or after or mark):
                        inside = "question mark" if mark else "slots"
                        yield f"{task}.{kind}: {{{name}}} takes no {inside} inside; only {{candidates}} does"
                if kind == "text" and slots & set(SLOTS):
                    yield f"{task}.text: the text-only prompt may hold no slot"
                if kind == "slots" and not slots & set(SLOTS) and not found & set(CODES):
                    yield f"{task}.slots: holds no slot and no code; add e.g. <user><item>"
            if not prompt.answer.strip():
                yield f"{task}.answer: is empty; e.g. ' {{label}}'"
            elif "{label}" not in prompt.answer:
                yield f"{task}.answer: must hold {{label}}, got '{prompt.answer}'"
