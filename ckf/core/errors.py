"""The one family of errors that a user is meant to read."""

from __future__ import annotations

from collections.abc import Sequence


class CkfError(Exception):
    """Something a user can mend; its text is one clear line, shown without a traceback."""

    exit_status = 1


class ConfigError(CkfError):
    """A refused config. ``problems`` holds one line for each fault; all are shown at once."""

    exit_status = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class DataError(CkfError):
    """Input data that cannot be used: names the file and, where there is one, the line or key."""


class ArtifactError(CkfError):
    """A cached artifact or a run folder that is missing, incomplete or does not fit."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where the message is empty."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
