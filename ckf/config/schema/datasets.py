"""Datasets: what all of them can set, filters, and the sources that this project describes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, fraction, one_of
from ckf.core.errors import Problem

DATE_FILTERS = ("since", "until")
COUNT_FILTERS = ("min_item_count", "min_user_count", "k_core", "min_history")
DUPLICATES = ("first", "last", "refuse")
TIME_UNITS = ("s", "ms", "us")


def is_date(value: Any) -> bool:
    """Whether a value is a date or a time as ISO 8601 writes it (2014-01-01, 2014-01-01T12:00:00)."""
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return not isinstance(value, (int, float))


@dataclass
class FilterConfig:
    """One step of the filters; steps run in the order of the list.

    ``since``, ``until``: a date in UTC; rows from it on, rows before it. ``min_item_count``,
    ``min_user_count``: rows whose item or user has at least ``value`` interactions, counted in the
    table as it is (``count_scope: now``), as it was before the first filter (``start``), or as it was
    after the last earlier step of a name (``count_scope: since``). ``k_core``: users and items with
    fewer than ``value`` go, again and again until none is left (``iterate``), or once, both counted
    on the same table. ``min_history``: rows whose user has fewer than ``value`` earlier interactions
    become history only; a source with histories of its own loses rows whose history is shorter.
    """

    name: str = MISSING
    value: Any = MISSING
    count_scope: str = "now"
    iterate: bool = True

    def problems(self) -> Iterator[Problem]:
        """Check the name and that the value is what the filter needs."""
        yield from one_of("name", self.name, DATE_FILTERS + COUNT_FILTERS)
        if self.name in DATE_FILTERS and not is_date(self.value):
            yield Problem("value", f"{self.value!r} is not a date in quotes, e.g. '2014-01-01'")
        if self.name in COUNT_FILTERS and (not isinstance(self.value, int) or self.value < 1):
            yield Problem("value", f"must be a whole number of at least 1, got {self.value!r}")
        if self.count_scope != "now" and self.name not in ("min_item_count", "min_user_count"):
            yield Problem(
                "count_scope", f"'{self.count_scope}' has a meaning for min_item_count and min_user_count alone"
            )


@dataclass
class DatasetConfig:
    """A source of interactions. ``supported_tasks`` lists the tasks its columns can serve.

    ``duplicates`` says which of a user's interactions with one item stays (by time), or refuses them.
    ``like_threshold``: a rating from it on is a click, where the source has no clicks of its own.
    ``rating_scale``: lowest and highest rating. ``max_bad_rows``: as many rows that cannot be used are
    left out and listed on the card; one more stops. ``memory_mb`` bounds the text held at a time.
    """

    name: str = MISSING
    supported_tasks: list[str] = field(default_factory=list)
    filters: list[FilterConfig] = field(default_factory=list)
    duplicates: str = "first"
    like_threshold: float = 4.0
    rating_scale: list[float] = field(default_factory=lambda: [1.0, 5.0])
    max_bad_rows: int = 0
    memory_mb: int = 2048

    def problems(self) -> Iterator[Problem]:
        """Check the settings that every source has."""
        yield from one_of("duplicates", self.duplicates, DUPLICATES)
        yield from at_least("max_bad_rows", self.max_bad_rows, 0)
        yield from at_least("memory_mb", self.memory_mb, 64)
        if len(self.rating_scale) != 2 or self.rating_scale[0] >= self.rating_scale[1]:
            yield Problem(
                "rating_scale", f"must be the lowest and the highest rating, e.g. [1,5], got {self.rating_scale}"
            )
        for place, step in enumerate(self.filters):
            earlier = [other.name for other in self.filters[:place]]
            if step.count_scope not in ("now", "start", *earlier):
                allowed = ", ".join(dict.fromkeys(("now", "start", *earlier)))
                yield Problem(
                    f"filters[{place}].count_scope", f"'{step.count_scope}' is no earlier step; one of {allowed}"
                )


@dataclass
class SyntheticConfig(DatasetConfig):
    """Planted users and items (DESIGN section 6): sizes, strengths (in logits) and the data's own seed."""

    users: int = 1000
    items: int = 300
    interactions_per_user: int = 60
    data_seed: int = 0
    topics: int = 8
    hidden_dims: int = 2
    text_strength: float = 1.8
    hidden_strength: float = 1.5
    bias_strength: float = 0.7
    late_fraction: float = 0.05

    def problems(self) -> Iterator[Problem]:
        """Sizes below which a split or a candidate list cannot be made."""
        yield from super().problems()
        yield from at_least("users", self.users, 20)
        yield from at_least("items", self.items, 30)
        yield from at_least("interactions_per_user", self.interactions_per_user, 5)
        yield from at_least("topics", self.topics, 2)
        yield from at_least("hidden_dims", self.hidden_dims, 1)
        yield from fraction("late_fraction", self.late_fraction, open_top=True)
        if self.interactions_per_user > self.items // 2:
            yield (
                Problem(
                    "interactions_per_user",
                    f"must be at most half of dataset.items ({self.items}), got {self.interactions_per_user}",
                )
            )


@dataclass
class CollmConfig(DatasetConfig):
    """CoLLM's pickled split: ``root`` holds train_ood2.pkl, valid_ood2.pkl and test_ood2.pkl."""

    root: str = MISSING
    licence: str = "that of the original data"


@dataclass
class ColumnsConfig:
    """Names of the columns in the interactions file; null where the file has none."""

    user: str = "user"
    item: str = "item"
    rating: str | None = "rating"
    timestamp: str = "timestamp"
    click: str | None = None
    review: str | None = None
    split: str | None = None

    def problems(self) -> Iterator[Problem]:
        """Say that a click or a rating is needed, and that a column serves once."""
        if self.rating is None and self.click is None:
            yield Problem("rating", "null, and click is null too; name the column of one of them")
        named = [name for name in vars(self).values() if name is not None]
        for name in sorted({n for n in named if named.count(n) > 1}):
            yield Problem("user", f"column '{name}' is named {named.count(name)} times; each column has one meaning")


@dataclass
class ItemColumnsConfig:
    """Names of the columns in the items file."""

    item: str = "item"
    title: str = "title"


@dataclass
class TabularConfig(DatasetConfig):
    """Own tables: ``root`` holds ``interactions`` and, unless null, ``items`` (titles), as csv or parquet.

    ``separator``, ``header`` and ``encoding`` are of csv alone. ``timestamp_unit``: s, ms or us.
    """

    root: str = MISSING
    interactions: str = MISSING
    items: str | None = None
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    item_columns: ItemColumnsConfig = field(default_factory=ItemColumnsConfig)
    separator: str = ","
    encoding: str = "utf8"
    timestamp_unit: str = "s"
    licence: str = "not stated"

    def problems(self) -> Iterator[Problem]:
        """Check what is of tables alone."""
        yield from super().problems()
        yield from one_of("timestamp_unit", self.timestamp_unit, TIME_UNITS)
        if not self.separator:
            yield Problem("separator", "is empty; e.g. ',' or '::'")
