"""Errors that are shown to the user as a message, without a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


class CkfError(Exception):
    """An error that the user can fix; its text is one clear line, shown without a traceback."""

    exit_status = 1


@dataclass(frozen=True)
class Problem:
    """An error in a config: the key it is about, and what is wrong with it.

    ``key`` is a config key, ``group=option`` or a word of the command line; empty where the problem has no key.
    ``also`` holds the other keys that a rule compares it with.
    """

    key: str
    message: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line: "key: message"."""
        return f"{self.key}: {self.message}" if self.key else self.message

    def concerns(self, key: str) -> bool:
        """Whether the problem is about ``key`` (``fusion``, ``dataset.root``), or about a key below it."""
        names = (name.partition("=")[0] for name in (self.key, *self.also))
        return any(name == key or name.startswith((f"{key}.", f"{key}[")) for name in names)

    def below(self, parent: str) -> Problem:
        """The same problem, its key prefixed with ``parent``."""
        return replace(self, key=f"{parent}.{self.key}")

    def within(self, place: str) -> Problem:
        """The same problem, prefixed with the file, trial or option where it was found."""
        return replace(self, key=f"{place}: {self.key}" if self.key else place)


class ConfigError(CkfError):
    """An invalid config. ``problems`` holds every error; all are shown at once, one a line."""

    exit_status = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


class DataError(CkfError):
    """Unusable input data. The message names the file and, where there is one, the line or key."""


class ArtifactError(CkfError):
    """A cached artifact or a run folder that is missing, incomplete or does not fit."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where the message is empty."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
