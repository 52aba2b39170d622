"""MovieLens of every size (Harper and Konstan, TiiS 2015), from its unpacked files or from GroupLens itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import MovieLensConfig, MovieLensLatestConfig
from ckf.core.errors import DataError
from ckf.data.readers.base import Source
from ckf.data.readers.download import Archive, fetch_archive, fetch_record
from ckf.data.readers.polars_scan import Scanner

ADDRESS = "https://files.grouplens.org/datasets/movielens"
_TERMS = (
    "GroupLens terms: research use with acknowledgement; no commercial use and no redistribution without permission "
    "(the README beside the files has the full text)"
)
_SHARED_TERMS = (
    "GroupLens terms: research use with acknowledgement; redistribution under the same terms; no commercial use "
    "without permission (the README beside the files has the full text)"
)
_OLDEST = 788_918_400  # 1995-01-01: ratings began in 1995


@dataclass(frozen=True)
class Release:
    """One published size: its archive, the MD5 that GroupLens publishes for it (None: it moves) and its layout."""

    archive: str
    md5: str | None
    layout: str
    terms: str = _TERMS


RELEASES = {
    "ml100k": Release("ml-100k.zip", "0e33842e24a9c977be4e0107933c0723", "u"),
    "ml1m": Release("ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906", "dat-latin-1"),
    "ml10m": Release("ml-10m.zip", "ce571fd55effeba0271552578f2648bd", "dat-utf8"),
    "ml20m": Release("ml-20m.zip", "cd245b17a1ae2cc31bb14903e1204af3", "csv"),
    "ml25m": Release("ml-25m.zip", "6b51fb2759a8657d3bfcbfc42b592ada", "csv"),
    "ml32m": Release("ml-32m.zip", "d472be332d4daa821edc399621853b57", "csv"),
    "ml_latest/small": Release("ml-latest-small.zip", None, "csv", _SHARED_TERMS),
    "ml_latest/full": Release("ml-latest.zip", None, "csv", _SHARED_TERMS),
}
_FILES = {
    "u": ["u.data", "u.item"],
    "dat-latin-1": ["ratings.dat", "movies.dat"],
    "dat-utf8": ["ratings.dat", "movies.dat"],
    "csv": ["ratings.csv", "movies.csv"],
}
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_RATED = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}


def release_of(cfg: MovieLensConfig) -> Release:
    """The release that the option's name (and for the latest, its edition) stands for."""
    return RELEASES[f"ml_latest/{cfg.edition}" if isinstance(cfg, MovieLensLatestConfig) else cfg.name]


def movielens_files(cfg: MovieLensConfig, say: Callable[[str], None] = print) -> list[Path]:
    """Ratings and movies; fetched first where they are missing and ``download`` is set.

    Raises:
        DataError: a file is missing, with what lies there instead; or the download failed.
    """
    release, root = release_of(cfg), Path(cfg.root)
    names = _FILES[release.layout]
    if cfg.download:
        fetch_archive(Archive(f"{ADDRESS}/{release.archive}", release.md5, release.terms), root, names, say)
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise DataError(f"dataset.root: {root} lacks {', '.join(missing)}{_hint(cfg, root, names)}")
    return [root / name for name in names]


def _hint(cfg: MovieLensConfig, root: Path, names: list[str]) -> str:
    below = [path.parent for path in sorted(root.glob(f"*/{names[0]}"))]
    if below:
        return f"; they lie in {below[0]}"
    for others in _FILES.values():
        if others != names and all((root / name).is_file() for name in others):
            fitting = dict.fromkeys(key.split("/")[0] for key, one in RELEASES.items() if _FILES[one.layout] == others)
            return f"; it holds {', '.join(others)}, which are of dataset={' or '.join(fitting)}"
    return f"; dataset={cfg.name} needs {', '.join(names)} (dataset.download=true fetches them)"


def read_movielens(cfg: MovieLensConfig, scanner: Scanner) -> Source:
    """Read ratings and movies; titles as they stand, the year from their end, genres as categories."""
    release = release_of(cfg)
    ratings, movies = movielens_files(cfg)
    match release.layout:
        case "u":
            rows = scanner.delimited(ratings, _RATED, separator="\t", header=False, quote=None)
            items = _read_u_item(movies, scanner)
        case "csv":
            rows = scanner.delimited(ratings, _columns("userId", "movieId", "rating", "timestamp", types=_RATED))
            rows = rows.rename({"userId": "user", "movieId": "item"})
            items = scanner.delimited(movies, dict.fromkeys(("movieId", "title", "genres"), pl.String)).select(
                item="movieId", title="title", categories="genres"
            )
        case _:
            encoding = release.layout.removeprefix("dat-")
            rows = scanner.delimited(ratings, _RATED, separator="::", header=False)
            names = dict.fromkeys(("item", "title", "categories"), pl.String)
            items = scanner.delimited(movies, names, separator="::", header=False, encoding=encoding)
            items = items.select("item", "title", "categories")
    year = pl.col("title").str.extract(r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$").cast(pl.Int32)
    return Source(
        interactions=rows,
        items=items.with_columns(pl.col("title").str.strip_chars(), year=year),
        files=(ratings,),
        item_files=(movies,),
        names={"user": "userId", "item": "movieId"} if release.layout == "csv" else {},
        oldest_timestamp=_OLDEST,
        card={
            "source": f"MovieLens, {release.archive.removesuffix('.zip')} (GroupLens)",
            "licence": release.terms,
            "citation": "Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015",
            **_fetched(ratings.parent),
        },
    )


def _fetched(root: Path) -> dict[str, Any]:
    record = fetch_record(root)
    return {"fetched": {key: record[key] for key in ("url", "md5", "md5_from") if key in record}} if record else {}


def _columns(*names: str, types: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(names, types.values(), strict=True))


def _read_u_item(path: Path, scanner: Scanner) -> pl.LazyFrame:
    """Movies of 100K: a flag for each genre at the end of the line."""
    flags = dict.fromkeys(_GENRES, pl.String)
    names = dict.fromkeys(("item", "title", "released", "video", "address"), pl.String) | flags
    items = scanner.delimited(path, names, separator="|", header=False, quote=None, encoding="latin-1")
    genres = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _GENRES]
    return items.select("item", "title", categories=pl.concat_str(genres, separator="|", ignore_nulls=True))
