"""``ckf completion``: completion of verbs, options, config groups and keys for a shell."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from ckf.cli.arguments import Typed, Verb
from ckf.config.option_groups import load_groups
from ckf.config.registry import SCHEMAS
from ckf.config.schema import ExperimentConfig
from ckf.core.errors import ConfigError, Problem

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_ckf_words={words}
_ckf() {{
    local line="${{COMP_LINE:0:COMP_POINT}}"
    local current="${{line##* }}"
    COMPREPLY=($(compgen -W "$_ckf_words" -- "$current"))
    # bash splits words at "=" (COMP_WORDBREAKS): what is before it must not come again
    if [[ "$current" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${{COMPREPLY[@]#"${{current%=*}}="}}")
    fi
    if [[ ${{#COMPREPLY[@]}} -eq 1 && "${{COMPREPLY[0]}}" == *= ]]; then compopt -o nospace; fi
}}
complete -o default -F _ckf ckf
"""
_ZSH = """\
#compdef ckf
_ckf() {{
    local -a words_without_space words_with_space
    words_without_space=({keys})
    words_with_space=({words})
    compadd -S '' -- $words_without_space
    compadd -- $words_with_space
    _files
}}
compdef _ckf ckf
"""
_FISH = "complete -c ckf -a {words}\n"


def call(typed: Typed, verbs: Sequence[Verb]) -> None:
    """Print the completion script of a shell.

    Raises:
        ConfigError: a shell that is not supported.
    """
    shell = typed.words[0]
    if shell not in SHELLS:
        raise ConfigError([Problem(shell, f"no such shell (one of {', '.join(SHELLS)})")])
    words = list(candidates(verbs, typed))
    keys, whole = [w for w in words if w.endswith("=")], [w for w in words if not w.endswith("=")]
    if shell == "zsh":
        print(_ZSH.format(keys=shlex.join(keys), words=shlex.join(whole)), end="")
    else:
        template = _BASH if shell == "bash" else _FISH
        print(template.format(words=shlex.quote(" ".join(words))), end="")


def candidates(verbs: Sequence[Verb], typed: Typed) -> Iterator[str]:
    """Every word that can be typed: verbs, options, their arguments, ``group=option``, and ``key=``."""
    yield from (verb.name for verb in verbs)
    yield from ("--help", "--version", "--cfg", "--multirun", "--jobs", "--config-dir", "--all")
    own = {argument.key: argument for verb in verbs for argument in verb.arguments}
    for key, argument in own.items():
        yield f"{key}="
        yield from (f"{key}={value}" for value in argument.allowed)
    for group, options in load_groups(typed.config_dir).options.items():
        yield f"{group}="
        yield from (f"{group}={option}" for option in options)
    yield from (f"{key}=" for key in config_keys())


def config_keys() -> list[str]:
    """Every dotted key of every option of every group, sorted."""
    found: set[str] = set()
    for group, options in SCHEMAS.items():
        for schema in options.values():
            found.update(_keys_of(schema, group))
    for entry in dataclasses.fields(ExperimentConfig):
        if dataclasses.is_dataclass(entry.default_factory):
            found.update(_keys_of(entry.default_factory, entry.name))
        elif entry.default is not dataclasses.MISSING and entry.name not in SCHEMAS:
            found.add(entry.name)
    return sorted(found)


def _keys_of(schema: Any, parent: str) -> Iterator[str]:
    for entry in dataclasses.fields(schema):
        key = f"{parent}.{entry.name}"
        if dataclasses.is_dataclass(entry.default_factory):
            yield from _keys_of(entry.default_factory, key)
        elif entry.name != "name":
            yield key
