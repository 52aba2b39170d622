"""Datasets: what all of them can set, filters, and the sources that this project describes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, fraction, known_encoding, one_of
from ckf.core.errors import Problem
from ckf.tasks import BUILT_IN

DATE_FILTERS = ("since", "until")
COUNT_FILTERS = ("min_item_count", "min_user_count", "k_core", "min_history")
DUPLICATES = ("first", "last", "refuse")
TIME_UNITS = ("s", "ms", "us", "ns")


def is_date(value: Any) -> bool:
    """Whether a value is a date or a time as ISO 8601 writes it (2014-01-01, 2014-01-01T12:00:00)."""
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return not isinstance(value, (int, float))


@dataclass
class FilterConfig:
    """One step of the filters. Steps run in the order of the list."""

    name: str = MISSING
    """``since`` and ``until`` cut by time; ``min_item_count``, ``min_user_count`` and ``k_core`` ask for a number of
    interactions. ``min_history`` keeps rows with fewer earlier interactions as history only (rows of a source with
    its own histories are dropped)."""
    value: Any = MISSING
    """A date in UTC for ``since`` (from it on) and ``until`` (before it), else the least number of interactions."""
    count_scope: str = "now"
    """Where ``min_item_count`` and ``min_user_count`` count: in the table as it is (``now``), before the first filter
    (``start``), or after the last earlier step of the given name (e.g. ``since``)."""
    iterate: bool = True
    """For ``k_core``: repeat until nothing is dropped. false drops users and items once, both counted on the same
    table."""

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
    """A source of interactions."""

    name: str = MISSING
    """The option's name. It is part of a run's name."""
    supported_tasks: list[str] = field(default_factory=list)
    """Tasks that the data's columns can serve."""
    filters: list[FilterConfig] = field(default_factory=list)
    """Steps that drop interactions, in order. Empty keeps all."""
    duplicates: str = "first"
    """Which of a user's interactions with one item stays, by time: ``first`` or ``last``. ``refuse`` stops."""
    like_threshold: float = 4.0
    """A rating from it on is a click, where the source has no clicks of its own."""
    rating_scale: list[float] = field(default_factory=lambda: [1.0, 5.0])
    """Lowest and highest rating."""
    max_bad_rows: int = 0
    """Rows that cannot be used are left out and listed in the dataset card, up to so many. One more stops."""
    memory_mb: int = 2048
    """Bound on the text held in memory at a time, in MiB. It changes no result."""

    @property
    def labelled(self) -> bool:
        """Whether rows have a rating or a click. Without either every row is a like (implicit feedback)."""
        return True

    @property
    def timed(self) -> bool:
        """Whether rows have times. Without them the order of the rows is the order in time."""
        return True

    @property
    def likes_by_rating(self) -> bool:
        """Whether ``like_threshold`` decides what a like is."""
        return False

    def problems(self) -> Iterator[Problem]:
        """Check the settings that every source has."""
        yield from one_of("duplicates", self.duplicates, DUPLICATES)
        yield from at_least("max_bad_rows", self.max_bad_rows, 0)
        yield from at_least("memory_mb", self.memory_mb, 64)
        if len(self.rating_scale) != 2 or self.rating_scale[0] >= self.rating_scale[1]:
            yield Problem(
                "rating_scale", f"must be the lowest and the highest rating, e.g. [1,5], got {self.rating_scale}"
            )
        elif self.likes_by_rating and not self.rating_scale[0] < self.like_threshold <= self.rating_scale[1]:
            low, high = self.rating_scale
            what = "every rating a like" if self.like_threshold <= low else "no rating a like"
            yield Problem(
                "like_threshold",
                f"{self.like_threshold:g} makes {what} on dataset.rating_scale [{low:g}, {high:g}]; it must be above "
                f"{low:g} and at most {high:g}",
            )
        yield from self._label_problems()
        for place, step in enumerate(self.filters):
            if step.name in DATE_FILTERS and not self.timed:
                yield Problem(f"filters[{place}].name", f"'{step.name}' filters by time, and the source has no times")
            earlier = [other.name for other in self.filters[:place]]
            if step.count_scope not in ("now", "start", *earlier):
                allowed = ", ".join(dict.fromkeys(("now", "start", *earlier)))
                yield Problem(
                    f"filters[{place}].count_scope", f"'{step.count_scope}' is no earlier step; one of {allowed}"
                )

    def _label_problems(self) -> Iterator[Problem]:
        """Name the tasks that a source without labels cannot serve."""
        if self.labelled:
            return
        known = {name: task for name, task in BUILT_IN.items() if task.listed_by_datasets}
        served = [name for name, task in known.items() if task.likes_suffice and task.needs <= {"click"}]
        others = [name for name in self.supported_tasks if name in known and name not in served]
        if others:
            yield Problem(
                "supported_tasks",
                f"{', '.join(others)} cannot be served: no column holds a rating or a click, so every row is a like "
                f"(implicit feedback); name the column, or use [{', '.join(served)}]",
            )


@dataclass
class SyntheticConfig(DatasetConfig):
    """Planted users and items whose best possible AUCs are known."""

    users: int = 1000
    """Number of users, at least 20."""
    items: int = 300
    """Number of items, at least 30."""
    interactions_per_user: int = 60
    """Interactions of each user, at most half of ``items``."""
    data_seed: int = 0
    """Seed of the data. It is its own, so that a run's seed does not change the data."""
    topics: int = 8
    """Themes of the items, which their titles show."""
    hidden_dims: int = 2
    """Dimensions of the taste that no text shows."""
    text_strength: float = 1.8
    """Weight of what titles show in the utility, in logits per standard deviation."""
    hidden_strength: float = 1.5
    """Weight of the taste that no text shows, in logits per standard deviation."""
    bias_strength: float = 0.7
    """Weight of user and item levels, in logits per standard deviation."""
    late_fraction: float = 0.05
    """Share of the users and of the items that appear only near the end of time, so that test has cold ones."""

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
    """CoLLM's pickled split."""

    root: str = MISSING
    """Folder of train_ood2.pkl, valid_ood2.pkl and test_ood2.pkl."""
    licence: str = "that of the original data"
    """Licence of the data, for the dataset card."""


@dataclass
class ColumnsConfig:
    """Names of the columns in the interactions file. null where the file has none."""

    user: str = "user"
    """User id."""
    item: str = "item"
    """Item id."""
    rating: str | None = "rating"
    """Rating, on ``dataset.rating_scale``. null with ``click`` null too is implicit feedback: every row is a like."""
    timestamp: str | None = "timestamp"
    """Time, in ``dataset.timestamp_unit``. null takes the order of the rows as the order in time."""
    click: str | None = None
    """0 or 1. null makes clicks from ratings, by ``dataset.like_threshold``."""
    review: str | None = None
    """Review text."""
    split: str | None = None
    """``train``, ``val`` or ``test``, for ``split=provided``."""

    def problems(self) -> Iterator[Problem]:
        """Say that a column serves once."""
        named = [name for name in vars(self).values() if name is not None]
        for name in sorted({n for n in named if named.count(n) > 1}):
            yield Problem("user", f"column '{name}' is named {named.count(name)} times; each column has one meaning")


@dataclass
class ItemColumnsConfig:
    """Names of the columns in the items file."""

    item: str = "item"
    """Item id, as in the interactions file."""
    title: str = "title"
    """Title."""


@dataclass
class TabularConfig(DatasetConfig):
    """Own tables as csv or parquet."""

    root: str = MISSING
    """Folder of the files."""
    interactions: str = MISSING
    """File of the interactions in ``root``, a folder of files (also with key=value folders), or a glob."""
    items: str | None = None
    """File, folder or glob of the items' titles in ``root``. null where there are no titles."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    """Names of the columns in the interactions file."""
    item_columns: ItemColumnsConfig = field(default_factory=ItemColumnsConfig)
    """Names of the columns in the items file."""
    separator: str = ","
    """What separates the fields, for csv alone."""
    encoding: str = "utf8"
    """Text encoding, for csv alone."""
    header: bool = True
    """Whether the first line of each file names the columns, for csv alone. false: ``columns`` and ``item_columns`` are
    numbers of fields, from 1."""
    timestamp_unit: str = "s"
    """Unit of the times since 1970 where they are numbers: ``s``, ``ms``, ``us`` or ``ns``. Dates and times as ISO 8601
    writes them, YYYYMMDD and columns of dates are recognised."""
    licence: str = "not stated"
    """Licence of the data, for the dataset card."""

    @property
    def labelled(self) -> bool:
        """Whether a column of ratings or clicks is named."""
        return self.columns.rating is not None or self.columns.click is not None

    @property
    def timed(self) -> bool:
        """Whether a column of times is named."""
        return self.columns.timestamp is not None

    @property
    def likes_by_rating(self) -> bool:
        """Whether there are ratings and no clicks."""
        return self.columns.rating is not None and self.columns.click is None

    def problems(self) -> Iterator[Problem]:
        """Check what is of tables alone."""
        yield from super().problems()
        yield from one_of("timestamp_unit", self.timestamp_unit, TIME_UNITS)
        yield from known_encoding("encoding", self.encoding)
        if not self.separator:
            yield Problem("separator", "is empty; e.g. ',' or '::'")
