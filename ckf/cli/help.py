"""The text of ``ckf --help`` and ``ckf VERB --help``."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence

from ckf.cli.arguments import Argument, Verb
from ckf.config.option_groups import Groups

_OVERVIEW = """\
usage: ckf [verb] [options] [key=value ...]

Fine-tune a language model into a recommender that also knows collaborative filtering.
Without a verb the main job runs: prepare, cf, train, evaluate, report. The last line on
stdout is the folder of the result. `ckf VERB --help` explains a verb.
"""


def overview(verbs: Sequence[Verb], options: argparse.ArgumentParser, groups: Groups) -> str:
    """The help of the whole program."""
    lines = []
    for verb in verbs:
        lines += textwrap.wrap(verb.summary, 96, initial_indent=f"  {verb.name:<11}", subsequent_indent=" " * 13)
    examples = [example for verb in verbs if verb.name in ("run", "inspect") for example in verb.examples]
    return "\n".join(
        [_OVERVIEW, "verbs:", *lines, "", _groups_text(groups), _options_text(options), "", "examples:",
         *(f"  {line}" for line in examples), ""]
    )  # fmt: skip


def verb_help(verb: Verb, options: argparse.ArgumentParser, groups: Groups) -> str:
    """The help of one verb: usage, its arguments, options, config groups, examples."""
    words = [word.upper().replace(" ", "_") for word in verb.words]
    own = [f"{a.key}={_placeholder(a)}" if a.required else f"[{a.key}={_placeholder(a)}]" for a in verb.arguments]
    config = ["[key=value ...]"] if verb.composes or verb.overrides else []
    head = " ".join(["usage: ckf", verb.name, *words, *own, "[options]", *config])
    lines = textwrap.wrap(head, 110, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)
    parts = ["\n".join(lines), "\n".join(textwrap.wrap(f"{verb.summary[0].upper()}{verb.summary[1:]}.", 110))]
    if verb.arguments:
        parts.append("arguments:\n" + "\n".join(line for a in verb.arguments for line in _argument_lines(a)))
    parts.append(_options_text(options))
    if verb.composes:
        parts.append(_groups_text(groups))
    parts.append("examples:\n" + "\n".join(f"  {example}" for example in verb.examples))
    return "\n\n".join(parts) + "\n"


def _placeholder(argument: Argument) -> str:
    return "|".join(argument.allowed) or argument.example


def _argument_lines(argument: Argument) -> list[str]:
    text = argument.help + (" (required)" if argument.required else "")
    if argument.allowed:
        text += f"; one of {', '.join(argument.allowed)}"
    return textwrap.wrap(text, 110, initial_indent=f"  {argument.key + '=':<13}", subsequent_indent=" " * 15)


def _options_text(options: argparse.ArgumentParser) -> str:
    text = options.format_help()
    return text[text.index("options:") :].rstrip()


def _groups_text(groups: Groups) -> str:
    lines = ["groups (GROUP=OPTION; * is the default, see --cfg for the keys below them):"]
    for group, options in groups.options.items():
        marked = " ".join(f"{option}*" if option == groups.defaults.get(group) else option for option in options)
        lines += textwrap.wrap(marked, 96, initial_indent=f"  {group:<11}", subsequent_indent=" " * 13)
    return "\n".join(lines) + "\n"
