"""What a task is: everything that is special about one kind of prompt, its answers and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np

from ckf.metrics.resampling import Ratio, Statistic
from ckf.metrics.unusable_answers import with_worst_clicks, with_worst_ratings

if TYPE_CHECKING:
    import pandas as pd  # its import takes half a second, and `ckf --help` comes through here

Data = Literal["click", "rating", "review"]
"""What a dataset may have besides users, items and times."""
T = TypeVar("T")


@dataclass(frozen=True)
class Wording:
    """The default prompts of a task (text alone, and with slots) and its answer, which holds ``{label}``."""

    text: str
    slots: str
    answer: str = " {label}"


@dataclass(frozen=True)
class Interactions:
    """All interactions of a dataset as columns [n]. ``rating`` is NaN where there is none.

    ``has_review`` is filled for tasks that need reviews; for others nothing is read.
    """

    user: np.ndarray
    item: np.ndarray
    click: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    has_review: np.ndarray


@dataclass(frozen=True)
class Vocabulary:
    """What answers may be made of: the title of each item id, and the rating scale as text, lowest first."""

    titles: Sequence[str]
    ratings: Sequence[str]


class Example(Protocol):
    """What a task reads of one example (`ckf.data.example_table.Example`)."""

    @property
    def example_id(self) -> str: ...  # noqa: D102
    @property
    def item(self) -> int: ...  # noqa: D102
    @property
    def label(self) -> float: ...  # noqa: D102
    @property
    def candidates(self) -> np.ndarray: ...  # noqa: D102
    @property
    def review(self) -> str | None: ...  # noqa: D102


class Sample:
    """Rows that metrics are computed of: predictions of one task and one source, or one row for each list.

    Columns are read as arrays; what several metrics need is computed once (`memo`).
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows
        self._found: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> np.ndarray:
        """One column. [n]"""
        return self.rows[name].to_numpy()

    @property
    def labels(self) -> np.ndarray:
        """Labels as numbers. [n]"""
        return self.rows["label"].to_numpy(dtype=float)

    @property
    def scores(self) -> np.ndarray:
        """Scores in which the worst score replaces each unusable answer (NaN). [n]"""
        return self.rows["score"].to_numpy(dtype=float)

    @property
    def probabilities(self) -> np.ndarray:
        """Scores that are probabilities; NaN throughout where a source gives an order alone. [n]"""
        marked = self.rows.get("order_alone")
        order_alone = marked is not None and marked.eq(True).any()  # the column has gaps where a source is not marked
        return np.full(len(self), np.nan) if order_alone else self.scores

    @property
    def users(self) -> np.ndarray:
        """User ids. [n]"""
        return self.column("user")

    def memo(self, function: Callable[[Sample], T]) -> T:
        """The value of a function of this sample, computed once."""
        if function not in self._found:
            self._found[function] = function(self)
        found: T = self._found[function]
        return found

    @property
    def user_codes(self) -> np.ndarray:
        """The users numbered in ascending order, so that two sources of the same examples pair up. [n]"""
        return self.memo(_numbered_users)[1]

    @property
    def n_users(self) -> int:
        """Number of different users."""
        return len(self.memo(_numbered_users)[0])

    def mean_of_rows(self, values: np.ndarray, *, root: bool = False) -> Ratio:
        """A mean over rows (``root``: its square root), to be resampled by user."""
        return Ratio.of_rows(values, self.user_codes, self.n_users, root=root)


def _numbered_users(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    names, codes = np.unique(sample.users, return_inverse=True)
    return names, codes


@dataclass(frozen=True)
class Metric:
    """One metric of a task.

    ``headline``: the task is judged by it, with an interval and paired tests. ``main``: given for small slices
    as well. ``statistic`` is the metric as a function of how often each user was drawn, for the bootstrap; it
    may give None where the sample does not allow it. ``tagged``: its name carries the protocol of the candidate
    lists or of decoding, e.g. ``hr@1[c10]``. ``needs_order``: meaningless where a protocol names one title only.
    ``title`` is its column in reports; a metric without one is in ``metrics.json`` alone. ``decimals`` is 0
    for counts.
    """

    name: str
    value: Callable[[Sample], float]
    direction: Literal["higher", "lower"] = "higher"
    headline: bool = False
    main: bool = False
    statistic: Callable[[Sample], Statistic | None] | None = None
    tagged: bool = False
    needs_order: bool = True
    title: str | None = None
    decimals: int = 4

    def key(self, tag: str) -> str:
        """The metric's name under a protocol, e.g. ``hr@1`` under ``[c10]``: ``hr@1[c10]``."""
        return f"{self.name}{tag}" if self.tagged else self.name

    def heading(self, tag: str) -> str | None:
        """Its column in reports under a protocol."""
        return f"{self.title} {tag}" if self.title and self.tagged else self.title


def count_rows(title: str) -> Metric:
    """The number of rows (or lists), which every task has."""
    return Metric("n", len, title=title, decimals=0)


class Task:
    """One kind of prompt. Subclass it, set what differs, and give the methods that need another rule.

    Answers of a task are a closed list of labels that are scored (`labels`), unless it is ``written``.
    """

    needs: ClassVar[frozenset[Data]] = frozenset({"click"})
    """What a dataset must have. A task that needs reviews gets the review's first words in every example."""
    likes_suffice: ClassVar[bool] = True
    """Whether a dataset in which every row is a like (implicit feedback) can serve the task."""
    listed_by_datasets: ClassVar[bool] = False
    """Whether datasets name the task among those that they support. If not, `needs` decides."""

    history: ClassVar[Literal["liked", "all"]] = "liked"
    """Which of the user's earlier interactions a history is made of."""
    history_ratings: ClassVar[bool] = False
    """Whether a history shows the rating of each item."""
    lists: ClassVar[bool] = False
    """Whether an example is a list of candidates, of which one is the target."""
    drawn_negatives: ClassVar[int] = 0
    """Items drawn for each interaction that an example is made of. Each makes one more example, of label 0."""
    random_targets_when_released: ClassVar[bool] = False
    """Whether the released protocol puts a random item in place of half of the targets."""

    placeholders: ClassVar[tuple[str, ...]] = ("history", "candidate")
    """Placeholders that the wording may hold."""
    required: ClassVar[str] = "candidate"
    """The placeholder that it must hold."""
    worded_as: ClassVar[str | None] = None
    """The task whose wording in the config's ``prompts`` it shares, where it has none of its own."""
    wording: ClassVar[Wording] = Wording("", "")
    """The wording of a task that the config's ``prompts`` do not name."""
    each_candidate: ClassVar[tuple[str, tuple[str, str]] | None] = None
    """For lists: the task whose wording of No and Yes answers a candidate that is asked about by itself."""

    written: ClassVar[bool] = False
    """Whether the answer is free text, generated in evaluation and not scored."""
    binary: ClassVar[bool] = False
    """Whether the labels are two, and the score is the probability of the second."""
    on_rating_scale: ClassVar[bool] = False
    """Whether the labels are the dataset's rating scale."""
    cf_output: ClassVar[Literal["click", "rank", "rating"] | None] = None
    """Which output of a CF model answers this task: probability of a like, rank score, rating, or none."""
    item_score: ClassVar[Literal["score", "rating"] | None] = None
    """What the task gives for one item of a catalogue: a like score, a rating, or nothing."""
    has_oracle: ClassVar[bool] = False
    """Whether synthetic data know the best possible answer."""

    metrics: ClassVar[tuple[Metric, ...]] = ()
    """Metrics, in the order of a report's columns. One of them is the headline."""
    released_name: ClassVar[str | None] = None
    """The ``task_type`` of the released code's training lines; None: the format has no such task."""

    def __init__(self, name: str) -> None:
        self.name = name

    # --- examples

    def wanted(self, rows: Interactions) -> np.ndarray:
        """Which interactions an example is made of. bool [n]"""
        keep = np.ones(len(rows.click), dtype=bool)
        if "rating" in self.needs:
            keep &= ~np.isnan(rows.rating)
        if "review" in self.needs:
            keep &= rows.has_review
        return keep

    def label(self, rows: Interactions) -> np.ndarray:
        """The label of an example of each interaction. [n]"""
        return rows.click

    # --- answers

    def labels(self, example: Example, words: Vocabulary) -> list[str]:
        """All possible answers of an example, in the order in which they are scored."""
        raise NotImplementedError(f"task {self.name}: give labels()")

    def true_label(self, example: Example, words: Vocabulary) -> str:
        """The right answer of an example, one of `labels`.

        Raises:
            DataError: none of them is right.
        """
        labels = self.labels(example, words)
        return labels[int(np.flatnonzero(self.label_values(labels) == example.label)[0])]

    def fixed_labels(self, words: Vocabulary) -> list[str]:
        """The answers where they are the same for every example; they must differ in their tokens."""
        return []

    def label_values(self, labels: Sequence[str]) -> np.ndarray:
        """The number that each answer means: a score is their mean under the answers' probabilities. [labels]"""
        return np.arange(len(labels), dtype=float)

    def scores(self, chances: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """The score of each row from the probabilities of its answers [n, labels]: the expected value. [n]"""
        found: np.ndarray = chances @ self.label_values(labels)
        return found

    def item_scores(self, log_probabilities: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """What orders items: the expected value, from log-probabilities [n, labels]. [n]"""
        chances = np.exp(log_probabilities - log_probabilities.max(axis=1, keepdims=True))
        found: np.ndarray = (chances @ self.label_values(labels)) / chances.sum(axis=1)
        return found

    def answer_of(self, scores: np.ndarray, labels: Sequence[str]) -> list[str]:
        """The answer that is closest to each score; the first one for NaN. [n]"""
        values = self.label_values(labels)
        return [labels[i] for i in np.abs(values - np.nan_to_num(scores)[:, None]).argmin(axis=1)]

    def worst_scores(self, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The scores with the worst one in place of NaN, an unusable answer. [n]"""
        if self.binary:
            return with_worst_clicks(labels, scores)
        return with_worst_ratings(labels, scores)

    # --- metrics

    def sample(self, rows: pd.DataFrame) -> Sample:
        """What the metrics are computed of, from rows of a predictions file without NaN scores."""
        return Sample(rows)

    def metrics_of_rows(self, rows: pd.DataFrame, tag: str) -> dict[str, float]:
        """Metrics of all rows that no slice has, e.g. coverage of the catalogue."""
        return {}

    @property
    def headline(self) -> Metric:
        """The one metric that the task is judged by."""
        return next(metric for metric in self.metrics if metric.headline)

    def columns(self, tag: str) -> dict[str, str]:
        """Columns of a report: title to the metric's name under a protocol."""
        titled = [(metric.heading(tag), metric) for metric in self.metrics]
        return {title: metric.key(tag) for title, metric in titled if title}

    def find_metric(self, key: str) -> Metric | None:
        """The metric that a name in ``metrics.json`` belongs to, e.g. of ``hr@1[c10]@warm_3`` or ``auc_minus_cf``."""
        for metric in sorted(self.metrics, key=lambda metric: -len(metric.name)):
            rest = key.removeprefix(metric.name)
            if key.startswith(metric.name) and (not rest or rest[0] in "[@_"):
                return metric
        return None

    # --- the released format

    def released_history(self, row: ReleasedRow) -> list[int]:
        """The ids of ``history_items_id`` in the released format."""
        return row.history

    def released_prompt(self, row: ReleasedRow) -> tuple[str, Any]:
        """Prompt and answer of one line of the released format.

        Raises:
            NotImplementedError: the task has no ``released_name``.
        """
        raise NotImplementedError(f"task {self.name}: has no released form")


@dataclass(frozen=True)
class ReleasedRow:
    """One example as the released format words it. ``slot`` is its mark for a vector, empty for text alone."""

    item: int
    label: float
    candidates: list[int]
    history: list[int]
    history_ratings: list[float]
    review: str
    titles: dict[int, str]
    slot: str

    @property
    def user(self) -> str:
        """The beginning of a sentence about the user."""
        return f"The user {self.slot} has" if self.slot else "The user has"

    def titled(self, item: int) -> str:
        """An item's title with its vector's mark."""
        return f'"{self.titles[item]}"' + (f" {self.slot}" if self.slot else "")

    @property
    def past(self) -> str:
        """The titles of the history."""
        return "; ".join(self.titles[item] for item in self.history) or "none yet"


def released_number(value: float) -> float | int:
    """5.0 as 5, since the answer is read by its text."""
    return int(value) if float(value).is_integer() else round(float(value), 4)
