"""What a verb of the command line is made of, and what was typed after it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ckf.config.compose import Composed, compose_with_notes
from ckf.config.option_groups import did_you_mean
from ckf.core.errors import CkfError, ConfigError, Problem


@dataclass(frozen=True)
class Argument:
    """A ``key=value`` argument of a verb that is no config.

    ``example`` is the value shown in help and errors; ``count_of`` names what a whole number of 1 or more counts.
    """

    key: str
    help: str
    example: str
    required: bool = False
    allowed: tuple[str, ...] = ()
    count_of: str = ""

    def problem(self, value: str) -> Problem | None:
        """The problem of a value, or None."""
        if not value:
            return Problem(self.key, "has no value")
        if self.allowed and value not in self.allowed:
            near = did_you_mean(value, self.allowed)
            return Problem(self.key, f"'{value}' is not allowed{near} (one of {', '.join(self.allowed)})")
        if self.count_of and not (value.isdecimal() and int(value) > 0):
            return Problem(self.key, f"'{value}' is not a number of {self.count_of} (1 or more)")
        return None


CACHE = Argument("paths.cache", "where the run's artifacts are, if neither where they were nor moved with it", "DIR")
"""Of verbs that use a finished run."""


@dataclass(frozen=True)
class Verb:
    """A verb: its arguments, its help, and the function that does its work.

    ``call`` returns the folder that the command prints as its last line, or None. ``composes``: the other
    arguments are a config. ``sweeps``: ``-m`` sweeps over it. ``overrides``: config keys are accepted in addition
    to the verb's own arguments. ``words``: how many plain words it takes, and what they are.
    """

    name: str
    summary: str
    call: Callable[[Typed], Path | None]
    examples: tuple[str, ...]
    arguments: tuple[Argument, ...] = ()
    composes: bool = False
    sweeps: bool = False
    overrides: bool = False
    words: tuple[str, ...] = ()
    config_dir: bool = True


@dataclass
class Typed:
    """A command line, taken apart: the verb's own arguments by key, config overrides, plain words and options."""

    verb: Verb
    values: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    config_dir: Path | None = None
    jobs: int | None = None
    check_all: bool = False

    def path(self, key: str) -> Path | None:
        """The value of an argument as a path; None where it was not given."""
        return Path(self.values[key]) if key in self.values else None

    def run_folder(self, key: str = "run") -> Path:
        """The run folder that an argument names.

        Raises:
            CkfError: no run folder is there.
        """
        return run_folder(self.values[key])

    def compose(self) -> Composed:
        """Compose and check the config; what it implies is noted on stderr.

        Raises:
            ConfigError: with every problem of the config.
        """
        composed = compose_with_notes(self.overrides, self.config_dir)
        for note in composed.notes:
            print(f"ckf: note: {note}", file=sys.stderr)
        return composed


def sort_words(verb: Verb, words: Sequence[str]) -> Typed:
    """Sort what follows a verb into its own arguments, config overrides and plain words.

    Raises:
        ConfigError: one line for each argument that is unknown, missing or has a wrong value.
    """
    typed, known, unknown = Typed(verb), {argument.key: argument for argument in verb.arguments}, []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and not word.startswith(("~", "+")):
            typed.words.append(word)
        elif key in known and not _is_config_option(verb, known[key], value):
            typed.values[key] = value
        elif verb.composes or "." in key:
            typed.overrides.append(word)
        else:
            unknown.append(Problem(key, f"unknown argument of ckf {verb.name}{did_you_mean(key, known)}"))
    if unknown:
        raise ConfigError(unknown)
    if problems := [*_wrong_words(typed), *_wrong_values(typed, known)]:
        raise ConfigError(problems)
    return typed


def run_folder(path: str) -> Path:
    """The run folder at ``path``.

    Raises:
        CkfError: no run folder is there.
    """
    run = Path(path)
    if not (run / "config.yaml").is_file():
        raise CkfError(f"{run}: not a run folder (no config.yaml); runs are made by `ckf` or `ckf train`")
    return run


def _is_config_option(verb: Verb, argument: Argument, value: str) -> bool:
    """``split=train`` belongs to the verb, ``split=temporal`` is an option of the config group of the same name."""
    return verb.composes and argument.key == "split" and value not in argument.allowed


def _wrong_words(typed: Typed) -> list[Problem]:
    verb, words = typed.verb, typed.words
    if not verb.words:
        return [Problem(word, "neither key=value nor an option; a verb comes before them") for word in words]
    if len(words) != len(verb.words):
        count = {1: "one", 2: "two"}[len(verb.words)]
        what = verb.words[0] if len(verb.words) == 1 else f"{verb.words[0]}s"
        return [Problem("", f"ckf {verb.name} takes {count} {what}, got {len(words)}; e.g. {verb.examples[0]}")]
    return []


def _wrong_values(typed: Typed, known: dict[str, Argument]) -> list[Problem]:
    verb = typed.verb
    problems = [
        Problem(argument.key, f"required, has no value (e.g. {argument.key}={argument.example})")
        for argument in verb.arguments
        if argument.required and not typed.values.get(argument.key)
    ]
    if not (verb.composes or verb.overrides):
        problems += [Problem(line, f"ckf {verb.name} takes no config") for line in typed.overrides]
    given = ((known[key], value) for key, value in typed.values.items())
    missing = {problem.key for problem in problems}
    found = (argument.problem(value) for argument, value in given if argument.key not in missing)
    return problems + [problem for problem in found if problem]
