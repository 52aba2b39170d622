"""Splits: how interactions become train, val and test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import MISSING

from ckf.config.schema.datasets import is_date
from ckf.config.schema.validators import at_least, fraction, one_of
from ckf.core.errors import Problem

SPLIT_NAMES = ("provided", "temporal", "leave_last_out", "user_cold", "item_cold")


@dataclass
class SplitConfig:
    """How interactions become train, val and test."""

    name: str = MISSING
    """``temporal`` cuts once in time for all users, by dates, month slots or fractions. ``user_cold`` and ``item_cold``
    hold out whole users or items; ``leave_last_out`` the last two interactions of each user; ``provided`` takes the
    dataset's own split."""
    val_fraction: float = 0.1
    """Share of the interactions (or of the users or items, where those are held out) for val."""
    test_fraction: float = 0.1
    """Share for test, counted in the same way."""
    val_from: str | None = None
    """First day of val in UTC, e.g. '2014-01-01', for ``split=temporal``. It wins over the fractions and needs
    ``test_from``."""
    test_from: str | None = None
    """First day of test in UTC."""
    train_months: list[int] | None = None
    """First and last month of train, counted from the month of the earliest interaction as 0, as CoLLM's split does.
    Months outside all three slots are left out."""
    val_months: list[int] | None = None
    """First and last month of val."""
    test_months: list[int] | None = None
    """First and last month of test."""
    split_seed: int = 0
    """Seed of every draw by raw id. It is its own, so that a run's seed does not change the split."""
    cold_user_max_interactions: int = 0
    """Users with at most so many interactions are put wholly into test, under any split. 0 is off."""
    train_fraction: float = 1.0
    """Share of the training interactions that is kept, for learning curves. A smaller share is part of a larger one;
    val and test stay as they are."""

    def problems(self) -> Iterator[Problem]:
        """Check names, fractions, dates and months."""
        yield from one_of("name", self.name, SPLIT_NAMES)
        yield from fraction("val_fraction", self.val_fraction, open_top=True)
        yield from fraction("test_fraction", self.test_fraction, open_top=True)
        if not 0 < self.train_fraction <= 1:
            yield Problem("train_fraction", f"must be above 0 and at most 1, got {self.train_fraction:g}")
        yield from at_least("cold_user_max_interactions", self.cold_user_max_interactions, 0)
        if self.val_fraction + self.test_fraction >= 1:
            yield (
                Problem(
                    "val_fraction",
                    f"with test_fraction it leaves no training data ({self.val_fraction:g} + {self.test_fraction:g})",
                )
            )
        yield from self._date_problems()
        yield from self._month_problems()

    def _date_problems(self) -> Iterator[Problem]:
        for key in ("val_from", "test_from"):
            value = getattr(self, key)
            if value is not None and not is_date(value):
                yield Problem(key, f"'{value}' is not a date, e.g. '2014-01-01'")
        if (self.val_from is None) != (self.test_from is None):
            yield Problem("val_from", "a cut by dates needs val_from and test_from")
        elif self.val_from is not None and self.test_from is not None and self.val_from >= self.test_from:
            yield Problem("val_from", f"must be before test_from ({self.test_from}), got {self.val_from}")

    def _month_problems(self) -> Iterator[Problem]:
        slots = {key: getattr(self, key) for key in ("train_months", "val_months", "test_months")}
        given = {key: slot for key, slot in slots.items() if slot is not None}
        if given and len(given) < 3:
            yield Problem(f"{next(iter(given))}", "month slots need train_months, val_months and test_months")
        last, before = -1, "the first month"
        for key, slot in given.items():
            if len(slot) != 2 or slot[0] > slot[1] or slot[0] <= last:
                yield Problem(key, f"must be the first and last month, e.g. [14,23], after {before}, got {slot}")
                return
            last, before = slot[1], key
        if given and self.val_from is not None:
            yield Problem("val_from", "a cut by dates and month slots exclude each other")
