"""Prompt wording as a list of typed parts: literal text, placeholders and slots."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

from ckf.config.schema import SLOTS, SlotKind

_KIND = "|".join(SLOTS)
_SLOTS = rf"((?:<(?:{_KIND})>)*)"
_MARK = re.compile(rf"\{{{_SLOTS}(\w+){_SLOTS}(\??)\}}|<({_KIND})>")


@dataclass(frozen=True)
class Literal:
    """Text that is the same in every prompt of the task."""

    text: str


@dataclass(frozen=True)
class Placeholder:
    """Text filled in from the example. ``lead`` is the space before it, tokenised with each filling.

    ``before`` and ``after`` are the kinds of slots around each of several fillings: ``{<item>candidates<pair>}``.
    ``pointwise`` ends each filling with a question mark, at which Yes or No is predicted: ``{candidates?}``.
    """

    name: str
    lead: str
    before: tuple[SlotKind, ...] = ()
    after: tuple[SlotKind, ...] = ()
    pointwise: bool = False


@dataclass(frozen=True)
class Slot:
    """A position whose embedding comes from the fusion."""

    kind: SlotKind


Part = Literal | Placeholder | Slot


def parse_template(wording: str) -> list[Part]:
    """Split a template into parts, in order.

    A space in front of a placeholder moves into it: byte-level vocabularies hold words with their
    leading space, so " Toy Story" must be one piece at any place in a prompt or answer.
    """
    parts: list[Part] = []
    start = 0
    for match in _MARK.finditer(wording):
        text = wording[start : match.start()]
        before, name, after, pointwise, kind = match.groups()
        lead = " " if name and text.endswith(" ") else ""
        text = text.removesuffix(lead) if lead else text
        if text:
            parts.append(Literal(text))
        if name:
            parts.append(Placeholder(name, lead, _kinds(before), _kinds(after), bool(pointwise)))
        else:
            parts.append(Slot(cast(SlotKind, kind)))
        start = match.end()
    if wording[start:]:
        parts.append(Literal(wording[start:]))
    return parts


def _kinds(slots: str) -> tuple[SlotKind, ...]:
    return tuple(cast(SlotKind, kind) for kind in re.findall(r"\w+", slots))
