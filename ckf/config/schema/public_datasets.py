"""Published sources: Amazon reviews, MovieLens, RecBole's atomic files, the released code's folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from omegaconf import MISSING

from ckf.config.schema.datasets import DatasetConfig
from ckf.config.schema.validators import one_of
from ckf.core.errors import Problem

AMAZON_VERSIONS = (2014, 2018, 2023)
LATEST_EDITIONS = ("small", "full")


@dataclass
class AmazonConfig(DatasetConfig):
    """Amazon reviews of one category."""

    root: str = MISSING
    """Folder of the reviews and the metadata under their official names, packed or unpacked."""
    category: str = MISSING
    """Category as the files are named, e.g. Movies_and_TV."""
    version: int = MISSING
    """``2014`` (reviews_X_5.json.gz, meta_X.json.gz), ``2018`` (X_5.json.gz, meta_X.json.gz) or ``2023`` (X.jsonl.gz,
    meta_X.jsonl.gz), with X the category."""

    def problems(self) -> Iterator[Problem]:
        """Check the version, and that the category is a name and not a path or a file."""
        yield from super().problems()
        if self.version not in AMAZON_VERSIONS:
            yield Problem("version", f"{self.version} is not allowed; one of {', '.join(map(str, AMAZON_VERSIONS))}")
        if not self.category.replace("_", "").isalnum():
            yield Problem("category", f"'{self.category}' is not a category as files are named, e.g. Digital_Music")


@dataclass
class MovieLensConfig(DatasetConfig):
    """MovieLens as GroupLens packs it; ``name`` chooses the release."""

    root: str = MISSING
    """Folder of the unpacked files."""
    download: bool = False
    """Whether to fetch the archive into ``root`` where its files are missing."""


@dataclass
class MovieLensLatestConfig(MovieLensConfig):
    """MovieLens latest, which grows."""

    edition: str = "small"
    """``small`` (about 100,000 ratings) or ``full``."""

    def problems(self) -> Iterator[Problem]:
        """Check the edition."""
        yield from super().problems()
        yield from one_of("edition", self.edition, LATEST_EDITIONS)


@dataclass
class RecboleConfig(DatasetConfig):
    """RecBole's atomic files."""

    root: str = MISSING
    """Folder of the files."""
    prefix: str = MISSING
    """Start of the file names: PREFIX.inter and, where there are titles, PREFIX.item."""
    parts: list[str] = field(default_factory=list)
    """Three middle names as in RecBole's ``benchmark_filename`` (PREFIX.PART.inter), for train, val and test. Empty
    reads one file."""
    user_field: str = "user_id"
    """Field of the user id, as in the header."""
    item_field: str = "item_id"
    """Field of the item id."""
    rating_field: str | None = "rating"
    """Field of the rating. null is not read; with ``label_field`` null too every row is a like (implicit feedback)."""
    label_field: str | None = None
    """Field of the click. null makes clicks from ratings."""
    time_field: str | None = "timestamp"
    """Field of the time. null takes the order of the rows as the order in time."""
    review_field: str | None = None
    """Field of the review. null is not read."""
    title_field: str | None = "title"
    """Field of the title in the item file. null is not read."""
    licence: str = "that of the original data"
    """Licence of the data, for the dataset card."""

    @property
    def labelled(self) -> bool:
        """Whether a field of ratings or labels is named."""
        return self.rating_field is not None or self.label_field is not None

    @property
    def timed(self) -> bool:
        """Whether a field of times is named."""
        return self.time_field is not None

    @property
    def likes_by_rating(self) -> bool:
        """Whether there are ratings and no labels."""
        return self.rating_field is not None and self.label_field is None

    def problems(self) -> Iterator[Problem]:
        """Check that there are three parts or none."""
        yield from super().problems()
        if len(self.parts) not in (0, 3) or len(set(self.parts)) != len(self.parts):
            yield Problem("parts", f"must be three different names (train, val, test) or none, got {self.parts}")


@dataclass
class ProcessedJsonConfig(DatasetConfig):
    """The released code's processed folder (six JSON files). It has no times: a sequence's order is the time."""

    root: str = MISSING
    """Folder of the six JSON files."""
    licence: str = "that of the original data"
    """Licence of the data, for the dataset card."""

    @property
    def timed(self) -> bool:
        """False: the layout has no times."""
        return False

    @property
    def likes_by_rating(self) -> bool:
        """True: the layout has ratings alone."""
        return True
