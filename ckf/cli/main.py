"""The command line: find the verb, parse its options, check the config, call the work.

Nothing heavy is imported before a config has been accepted.
"""

from __future__ import annotations

import argparse
import functools
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ckf import __version__
from ckf.cli import (
    audit,
    cf,
    check,
    completion,
    diff,
    evaluate,
    export,
    inspect,
    plan,
    predict,
    prepare,
    probe,
    rebuild,
    recommend,
    report,
    run,
    sweep,
    train,
)
from ckf.cli.arguments import Typed, Verb, sort_words
from ckf.cli.help import overview, verb_help
from ckf.config.compose import to_yaml
from ckf.config.option_groups import did_you_mean, load_groups
from ckf.core.errors import CkfError, ConfigError, Problem

_STAGES = (
    prepare,
    audit,
    inspect,
    plan,
    cf,
    train,
    run,
    evaluate,
    predict,
    recommend,
    probe,
    report,
    diff,
    export,
    rebuild,
)
VERBS = {module.VERB.name: module.VERB for module in (*_STAGES, check, sweep)}
VERBS["completion"] = Verb(
    "completion",
    "print the completion script of a shell: bash, zsh or fish",
    functools.partial(completion.call, verbs=tuple(VERBS.values())),
    words=("shell",),
    examples=('eval "$(ckf completion bash)"    # in ~/.bashrc', "ckf completion fish | source"),
)
_WITH_VALUE = ("--config-dir", "--jobs")


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are problems of the command line, as all others."""

    def error(self, message: str) -> NoReturn:
        option = message.removeprefix("argument ").partition(":")[0].split("/")[-1]
        raise ConfigError([Problem(option, "needs a value" if "expected one argument" in message else message)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 2 refused config, 1 anything else, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is half built is removed
    try:
        folder = _dispatch(list(sys.argv[1:] if argv is None else argv))
    except CkfError as error:
        for line in str(error).splitlines():
            print(f"ckf: {line}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("ckf: interrupted; the same command continues", file=sys.stderr)
        return 130
    if folder is not None:
        print(folder, flush=True)
    return 0


def build_parser(verb: Verb | None = None) -> argparse.ArgumentParser:
    """The parser of every verb. Options that ``verb`` has no use for are left out of its help, yet parsed."""

    def shown(condition: bool, text: str) -> str:
        return text if verb is None or condition else argparse.SUPPRESS

    options = _Parser(add_help=False, allow_abbrev=False)
    add = options.add_argument
    composes, sweeps, swept = verb and verb.composes, verb and verb.sweeps, verb and verb.name == "sweep"
    add("-h", "--help", action="store_true", help="print this text")
    add("--version", action="store_true", help=shown(False, "print the version"))
    add(
        "--cfg", action="store_true", help=shown(bool(composes and not swept), "print the resolved config, run nothing")
    )
    multirun = "a sweep: every combination of key=a,b,c; a process for each (launcher=, search=)"
    add("-m", "--multirun", action="store_true", help=shown(bool(sweeps), multirun))
    jobs = "with -m or sweep: N trials at a time (as launcher.jobs=N; default 1)"
    add("--jobs", metavar="N", help=shown(bool(sweeps or swept), jobs))
    config_dir = "a folder with options of your own (DIR/<group>/<option>.yaml)"
    add("--config-dir", metavar="DIR", help=shown(bool(verb and verb.config_dir), config_dir))
    add("--all", action="store_true", dest="check_all",
        help=shown(bool(verb and verb.name == "check"), "with check: every option and every sweep"))  # fmt: skip
    root: argparse.ArgumentParser = _Parser("ckf", add_help=False, parents=[options])
    verbs = root.add_subparsers(dest="verb", metavar="verb")
    for name in VERBS:
        below = verbs.add_parser(name, add_help=False, allow_abbrev=False, parents=[options])
        below.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    return options if verb else root


def parse(argv: Sequence[str]) -> tuple[Typed | None, argparse.Namespace, str]:
    """Take a command line apart: what was typed (None for ``--help`` and ``--version``), options, and the verb's name.

    Raises:
        ConfigError: an unknown verb or option, or one that does not belong to the verb.
    """
    name, rest = _find_verb(argv)
    options, extra = build_parser().parse_known_args([name or "run", *rest])
    words = [*options.words, *(word for word in extra if not word.startswith("-"))]
    known = [*_WITH_VALUE, "--help", "--version", "--cfg", "--multirun", "--all"]
    problems = [Problem(word, f"unknown option{did_you_mean(word, known)}") for word in extra if word.startswith("-")]
    if options.help or options.version:
        if problems:
            raise ConfigError(problems)
        return None, options, name
    verb = VERBS[name or "run"]
    problems += _misplaced(verb, options)
    try:
        typed = sort_words(verb, words)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    typed.config_dir = Path(options.config_dir) if options.config_dir else None
    typed.jobs = int(options.jobs) if options.jobs else None
    typed.check_all = options.check_all
    return typed, options, name


def _find_verb(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The first word, if a word comes before any ``key=value``, and the rest.

    Raises:
        ConfigError: it is no verb.
    """
    skip = False
    for place, argument in enumerate(argv):
        if skip or argument.startswith("-"):
            skip = argument in _WITH_VALUE and not skip
            continue
        if "=" in argument or argument.startswith(("~", "+")):
            break
        if argument not in VERBS:
            known = f"{did_you_mean(argument, VERBS)} (one of {', '.join(VERBS)}; or key=value)"
            raise ConfigError([Problem(argument, f"unknown verb{known}")])
        return argument, [*argv[:place], *argv[place + 1 :]]
    return "", list(argv)


def _misplaced(verb: Verb, options: argparse.Namespace) -> list[Problem]:
    """A problem for each option that its verb has no use for, and for a wrong number of jobs."""
    problems, sweeps = [], verb.name == "sweep" or options.multirun
    if options.check_all and verb.name != "check":
        problems.append(Problem("--all", "belongs to ckf check"))
    if options.cfg and (not verb.composes or sweeps):
        problems.append(Problem("--cfg", "shows the config of one run; leave out the sweep or the verb"))
    if options.multirun and not verb.sweeps:
        problems.append(Problem("-m", "sweeps over the main job or prepare, cf, train"))
    if options.jobs and not (options.jobs.isdigit() and int(options.jobs) > 0):
        problems.append(Problem("--jobs", f"'{options.jobs}' is not a number of processes (1 or more)"))
    elif options.jobs and not sweeps:
        problems.append(Problem("--jobs", "belongs to -m or ckf sweep"))
    if options.config_dir and not verb.config_dir:
        problems.append(Problem("--config-dir", f"ckf {verb.name} reads the config from the run"))
    return problems


def _dispatch(argv: Sequence[str]) -> Path | None:
    """Run the command line; return the folder that it made, if any."""
    typed, options, name = parse(argv)
    if typed is None:
        print(f"ckf {__version__}\n" if options.version else _help(name, options.config_dir), end="")
        return None
    if options.multirun:
        from ckf.sweep.run_sweep import run_multirun

        stage = "" if typed.verb.name == "run" else typed.verb.name
        return run_multirun(stage, typed.overrides, typed.config_dir, typed.jobs)
    if options.cfg:
        print(to_yaml(typed.compose().exp), end="")
        return None
    return typed.verb.call(typed)


def _help(name: str, config_dir: str | None) -> str:
    groups = load_groups(Path(config_dir) if config_dir else None)
    if name:
        return verb_help(VERBS[name], build_parser(VERBS[name]), groups)
    return overview(tuple(VERBS.values()), build_parser(), groups)
