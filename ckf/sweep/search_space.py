"""The space of a search, written as Hydra's sweeps are: choice(), range(), interval(), tag(log,interval())."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from ckf.core.errors import CkfError, Problem, first_line

Suggest = Callable[[Any], Any]
"""From Optuna's trial to a value."""


@dataclass
class Space:
    """Searched keys, the overrides that stay, and a line for each override that cannot be read or searched."""

    suggest: dict[str, Suggest] = field(default_factory=dict)
    fixed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def values(self, trial: Any) -> dict[str, Any]:
        """What Optuna's trial suggests for every key."""
        return {key: suggest(trial) for key, suggest in self.suggest.items()}


def read_space(lines: Sequence[str]) -> Space:
    """Take searched keys and fixed overrides apart."""
    space, parser = Space(), OverridesParser.create()
    for line in lines:
        try:
            override = parser.parse_override(line)
        except HydraException as error:
            space.problems.append(Problem(line, f"cannot be read ({first_line(error)})"))
            continue
        if not override.is_sweep_override():
            space.fixed.append(line)
        elif (suggest := _suggestion(override)) is not None:
            space.suggest[override.get_key_element()] = suggest
        else:
            space.problems.append(Problem(line, "only choice(), range() and interval() can be searched"))
    return space


def _suggestion(override: Override) -> Suggest | None:
    key, value = override.get_key_element(), override.value()
    if isinstance(value, (ChoiceSweep, RangeSweep)):
        options = [str(option) for option in override.sweep_string_iterator()]
        return lambda trial: trial.suggest_categorical(key, options)
    if isinstance(value, IntervalSweep) and value.start is not None and value.end is not None:
        low, high, log = value.start, value.end, "log" in value.tags
        if isinstance(low, int) and isinstance(high, int):
            return lambda trial: trial.suggest_int(key, low, high, log=log)
        return lambda trial: float(f"{trial.suggest_float(key, float(low), float(high), log=log):.4g}")
    return None


def import_optuna() -> Any:
    """Optuna, quiet.

    Raises:
        CkfError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise CkfError("the search needs Optuna: pip install 'ckf[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
