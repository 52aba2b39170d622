"""The command line: takes the verb and the options off, checks the config, calls the work.

Nothing heavy is imported before a config has been accepted.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ckf import __version__, finished
from ckf.cli import arguments as verbs
from ckf.cli.help import COMPOSED, ON_RUNS, SWEPT, VERBS, WITH_WORDS, usage
from ckf.config.compose import Composed, compose_with_notes, to_yaml
from ckf.config.option_groups import did_you_mean, load_groups
from ckf.core.errors import CkfError, ConfigError, Problem

_FLAGS = {
    "-h": "help",
    "--help": "help",
    "--version": "version",
    "--cfg": "cfg",
    "--all": "all",
    "-m": "multirun",
    "--multirun": "multirun",
}
_VALUED = {"--config-dir": "config_dir", "--jobs": "jobs"}


@dataclasses.dataclass
class Command:
    """A parsed command line. ``words`` are the arguments that are neither options nor key=value."""

    verb: str = ""
    overrides: list[str] = dataclasses.field(default_factory=list)
    words: list[str] = dataclasses.field(default_factory=list)
    flags: set[str] = dataclasses.field(default_factory=set)
    config_dir: Path | None = None
    jobs: int | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 2 refused config, 1 anything else, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is half built is removed
    try:
        folder = _dispatch(parse_argv(sys.argv[1:] if argv is None else argv))
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


def parse_argv(argv: Sequence[str]) -> Command:
    """Take verb, options and overrides apart.

    Raises:
        ConfigError: an unknown verb or option, or one that does not belong to the verb.
    """
    command, problems, rest = Command(), [], list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if argument in _FLAGS:
            command.flags.add(_FLAGS[argument])
        elif name in _VALUED:
            if not equals and not rest:
                problems.append(Problem(name, "needs a value"))
                break
            problems += _take_value(command, name, value if equals else rest.pop(0))
        elif argument.startswith("-"):
            problems.append(Problem(argument, f"unknown option{did_you_mean(argument, [*_FLAGS, *_VALUED])}"))
        elif _is_word(argument) and not (command.verb or command.overrides):
            command.verb = argument
        elif _is_word(argument):
            command.words.append(argument)
        else:
            command.overrides.append(argument)
    if command.verb and command.verb not in VERBS:
        hint = did_you_mean(command.verb, VERBS)
        problems.append(Problem(f"{command.verb}", f"unknown verb{hint} (one of {', '.join(VERBS)}; or key=value)"))
    else:
        problems += _misplaced(command)
    if problems:
        raise ConfigError(problems)
    return command


def _is_word(argument: str) -> bool:
    return "=" not in argument and not argument.startswith(("-", "~", "+"))


def _take_value(command: Command, name: str, value: str) -> list[Problem]:
    if name == "--config-dir":
        command.config_dir = Path(value)
    elif value.isdigit() and int(value) > 0:
        command.jobs = int(value)
    else:
        return [Problem(name, f"'{value}' is not a number of processes (1 or more)")]
    return []


def _misplaced(command: Command) -> list[Problem]:
    """Return a problem for each option or word that its verb has no use for."""
    problems, verb = [], command.verb
    sweeps = verb == "sweep" or "multirun" in command.flags
    if verb not in WITH_WORDS:
        problems += [
            Problem(word, "neither key=value nor an option; a verb stands before them") for word in command.words
        ]
    if "all" in command.flags and verb != "check":
        problems.append(Problem("--all", "belongs to ckf check"))
    if "cfg" in command.flags and (verb not in COMPOSED or sweeps):
        problems.append(Problem("--cfg", "shows the config of one run; leave out the sweep or the verb"))
    if "multirun" in command.flags and verb not in SWEPT:
        problems.append(Problem("-m", "sweeps over the main job or prepare, cf, train"))
    if command.jobs and not sweeps:
        problems.append(Problem("--jobs", "belongs to -m or ckf sweep"))
    if command.config_dir and verb in ON_RUNS:
        problems.append(Problem("--config-dir", f"ckf {verb} reads the config from the run"))
    return problems


def _dispatch(command: Command) -> Path | None:
    """Do what the command says; return the folder that it made, if any."""
    if "help" in command.flags:
        print(usage(command.verb, load_groups(command.config_dir)), end="")
        return None
    if "version" in command.flags:
        print(f"ckf {__version__}")
        return None
    match command.verb:
        case "evaluate":
            return finished.evaluate(command.overrides)
        case "report":
            return finished.report(command.overrides)
        case "diff":
            return finished.diff(command.words, command.overrides)
        case "export":
            return finished.export(command.overrides)
        case "predict":
            return finished.predict(command.overrides)
        case "recommend":
            return finished.recommend(command.overrides)
        case "probe":
            return finished.probe(command.words, command.overrides)
        case "sweep":
            return _sweep_file(command)
        case "check" if "all" in command.flags:
            from ckf.cli.check import check_all

            print(check_all(command.config_dir, Path("experiments")))
            return None
    if "multirun" in command.flags:
        from ckf import sweep

        return sweep.run_multirun(command.verb, command.overrides, command.config_dir, command.jobs)
    own = verbs.take_arguments(command.verb, command.overrides)
    return _one_run(command, compose_with_notes(own.overrides, command.config_dir), own)


def _one_run(command: Command, composed: Composed, own: verbs.OwnArguments) -> Path | None:
    for note in composed.notes:
        print(f"ckf: note: {note}", file=sys.stderr)
    if "cfg" in command.flags:
        print(to_yaml(composed.exp), end="")
        return None
    if command.verb == "check":
        print("config ok: " + " ".join(f"{group}={option}" for group, option in composed.choices.items()))
        return None
    own.check(composed.exp)
    if command.verb in ("audit", "inspect", "plan"):
        from ckf import look

        if command.verb == "audit":
            return look.audit(composed.exp)
        if command.verb == "plan":
            look.plan(composed.exp)
        else:
            look.inspect(composed.exp, own.request())
        return None
    from ckf.pipeline import run as pipeline

    if command.verb == "prepare" and own.values:
        out = own.values.get("out")
        return pipeline.prepare(composed.exp, own.values["export"], Path(out) if out else None)
    stage = {"": pipeline.run, "prepare": pipeline.prepare, "cf": pipeline.cf, "train": pipeline.train}
    return stage[command.verb](composed.exp)


def _sweep_file(command: Command) -> Path:
    from ckf import sweep

    if len(command.words) != 1:
        raise ConfigError(
            [Problem("", f"ckf sweep takes one file, got {len(command.words)}; e.g. experiments/fusion/sweep.yaml")]
        )
    return sweep.run_file(Path(command.words[0]), command.overrides, command.config_dir, command.jobs)
