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
    """Amazon reviews of one category; ``root`` holds both files under their official names.

    ``version``: 2014 (reviews_X_5.json.gz, meta_X.json.gz), 2018 (X_5.json.gz, meta_X.json.gz) or
    2023 (X.jsonl.gz, meta_X.jsonl.gz); each also unpacked. ``category`` is the X, e.g. Movies_and_TV.
    """

    root: str = MISSING
    category: str = MISSING
    version: int = MISSING

    def problems(self) -> Iterator[Problem]:
        """Check the version, and that the category is a name and not a path or a file."""
        yield from super().problems()
        if self.version not in AMAZON_VERSIONS:
            yield Problem("version", f"{self.version} is not allowed; one of {', '.join(map(str, AMAZON_VERSIONS))}")
        if not self.category.replace("_", "").isalnum():
            yield Problem("category", f"'{self.category}' is not a category as files are named, e.g. Digital_Music")


@dataclass
class MovieLensConfig(DatasetConfig):
    """MovieLens as GroupLens packs it; ``name`` says which. ``root`` holds the unpacked files.

    ``download``: fetch the archive into ``root`` where its files are missing.
    """

    root: str = MISSING
    download: bool = False


@dataclass
class MovieLensLatestConfig(MovieLensConfig):
    """MovieLens latest, which grows. ``edition``: small (about 100,000 ratings) or full."""

    edition: str = "small"

    def problems(self) -> Iterator[Problem]:
        """Check the edition."""
        yield from super().problems()
        yield from one_of("edition", self.edition, LATEST_EDITIONS)


@dataclass
class RecboleConfig(DatasetConfig):
    """RecBole's atomic files: ``root`` holds ``prefix``.inter and, where there are titles, ``prefix``.item.

    ``parts``: three middle names as of RecBole's ``benchmark_filename`` (prefix.PART.inter), which are
    then train, val and test. Fields are named as in the header; a field that is null is not read.
    """

    root: str = MISSING
    prefix: str = MISSING
    parts: list[str] = field(default_factory=list)
    user_field: str = "user_id"
    item_field: str = "item_id"
    rating_field: str | None = "rating"
    label_field: str | None = None
    time_field: str = "timestamp"
    review_field: str | None = None
    title_field: str | None = "title"
    licence: str = "that of the original data"

    def problems(self) -> Iterator[Problem]:
        """Check that there are three parts or none, and something to learn from."""
        yield from super().problems()
        if len(self.parts) not in (0, 3) or len(set(self.parts)) != len(self.parts):
            yield Problem("parts", f"must be three different names (train, val, test) or none, got {self.parts}")
        if self.rating_field is None and self.label_field is None:
            yield Problem("rating_field", "null, and label_field is null too; name the field of one of them")


@dataclass
class ProcessedJsonConfig(DatasetConfig):
    """The released code's processed folder (six JSON files). It has no times: a sequence's order is the time."""

    root: str = MISSING
    licence: str = "that of the original data"
