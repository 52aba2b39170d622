"""MovieLens of every size on made files, wrong folders, and fetching it from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ckf.config.schema import MovieLensConfig, MovieLensLatestConfig
from ckf.core.errors import DataError
from ckf.data.readers import movielens
from ckf.data.readers.base import Source
from ckf.data.readers.movielens import RELEASES, movielens_files, read_movielens
from ckf.data.readers.polars_scan import Scanner

TITLES = ["Café: la vie (1995)", "Matrix, The (1999)", "Unknown"]
HALF = ["ml10m", "ml20m", "ml25m", "ml32m", "ml_latest"]
NAMES = ["ml100k", "ml1m", *HALF]


def config(root: Path, name: str, **more: Any) -> MovieLensConfig:
    kind = MovieLensLatestConfig if name == "ml_latest" else MovieLensConfig
    return kind(name=name, root=str(root), **more)


def files(name: str) -> dict[str, bytes]:
    """Three movies and four ratings in the layout of a release."""
    stars = ("5", "3", "1", "4") if name in ("ml100k", "ml1m") else ("4.5", "0.5", "5.0", "3.0")
    rows = [("7", "1", stars[0], "964982703"), ("7", "2", stars[1], "964982704")]
    rows += [("12", "1", stars[2], "964982705"), ("12", "3", stars[3], "964982706")]
    if name == "ml100k":
        flags = {1: {5, 8}, 2: {1, 15}, 3: {0}}
        movies = [
            "|".join([str(n), title, "01-Jan-1995", "", "http://x?a=%22b", *("01"[k in flags[n]] for k in range(19))])
            for n, title in enumerate(TITLES, 1)
        ]
        return {
            "u.data": "".join("\t".join(row) + "\n" for row in rows).encode(),
            "u.item": ("\n".join(movies) + "\n").encode("latin-1"),
        }
    genres = ("Comedy|Drama", "Action|Sci-Fi", "(no genres listed)")
    if name in ("ml1m", "ml10m"):
        movies = [f"{n}::{title}::{kinds}" for n, (title, kinds) in enumerate(zip(TITLES, genres, strict=True), 1)]
        encoding = "latin-1" if name == "ml1m" else "utf8"
        return {
            "ratings.dat": "".join("::".join(row) + "\n" for row in rows).encode(),
            "movies.dat": ("\n".join(movies) + "\n").encode(encoding),
        }
    quoted = [f'"{title}"' if "," in title else title for title in TITLES]
    movies = [f"{n},{title},{kinds}" for n, (title, kinds) in enumerate(zip(quoted, genres, strict=True), 1)]
    return {
        "ratings.csv": "\r\n".join(["userId,movieId,rating,timestamp", *map(",".join, rows), ""]).encode(),
        "movies.csv": "\r\n".join(["movieId,title,genres", *movies, ""]).encode(),
    }


def write(root: Path, name: str) -> Path:
    root.mkdir(exist_ok=True)
    for file, data in files(name).items():
        (root / file).write_bytes(data)
    return root


def read(root: Path, name: str, scratch: Path, **more: Any) -> Source:
    return read_movielens(config(root, name, **more), Scanner(scratch))


def items(source: Source) -> pl.DataFrame:
    assert isinstance(source.items, pl.LazyFrame)
    return source.items.collect()


@pytest.mark.parametrize("name", NAMES)
def test_every_release(tmp_path: Path, name: str) -> None:
    source = read(write(tmp_path / "in", name), name, tmp_path)
    rows = source.interactions.collect().select("user", "item", "rating", "timestamp").rows()
    stars = [4.5, 0.5, 5.0, 3.0] if name in HALF else [5.0, 3.0, 1.0, 4.0]
    expected = [("7", "1"), ("7", "2"), ("12", "1"), ("12", "3")]
    assert rows == [(u, i, r, 964982703 + n) for n, ((u, i), r) in enumerate(zip(expected, stars, strict=True))]
    table = items(source)
    assert table["item"].to_list() == ["1", "2", "3"]
    assert table["title"].to_list() == TITLES
    assert table["year"].to_list() == [1995, 1999, None]
    assert table["categories"][0] == "Comedy|Drama"
    assert table["categories"][1] == "Action|Sci-Fi"
    assert "GroupLens" in source.card["licence"]


def test_utf8_in_place_of_latin_1_is_recognised(tmp_path: Path) -> None:
    """The 1M movies are latin-1 and the 10M movies UTF-8: read as the other, the accent would break."""
    folder = write(tmp_path / "in", "ml1m")
    (folder / "movies.dat").write_bytes(files("ml10m")["movies.dat"])
    assert items(read(folder, "ml1m", tmp_path))["title"][0] == TITLES[0]


@pytest.mark.parametrize(
    ("held", "asked", "hint"),
    [
        (
            "ml25m",
            "ml1m",
            "it holds ratings.csv, movies.csv, which are of dataset=ml20m or ml25m or ml32m or ml_latest",
        ),
        ("ml1m", "ml_latest", "it holds ratings.dat, movies.dat, which are of dataset=ml1m or ml10m"),
        ("ml100k", "ml10m", "it holds u.data, u.item, which are of dataset=ml100k"),
    ],
)
def test_files_of_another_release_are_named(tmp_path: Path, held: str, asked: str, hint: str) -> None:
    folder = write(tmp_path / "in", held)
    with pytest.raises(DataError) as caught:
        movielens_files(config(folder, asked))
    assert hint in str(caught.value)


def test_a_folder_above_or_an_empty_one(tmp_path: Path) -> None:
    write(tmp_path / "ml-1m", "ml1m")
    with pytest.raises(DataError, match=r"lacks ratings.dat, movies.dat; they lie in .*ml-1m$"):
        movielens_files(config(tmp_path, "ml1m"))
    with pytest.raises(DataError, match=r"dataset=ml25m needs ratings.csv, movies.csv \(dataset.download=true fetches"):
        movielens_files(config(tmp_path / "none", "ml25m"))


def test_every_option_has_a_release_and_every_fixed_one_a_checksum() -> None:
    assert {key.split("/")[0] for key in RELEASES} == set(NAMES)
    for key, release in RELEASES.items():
        assert (release.md5 is None) == key.startswith("ml_latest"), key
        assert release.md5 is None or len(bytes.fromhex(release.md5)) == 16


# --- download ---------------------------------------------------------------------------------


@pytest.fixture
def grouplens(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A server with archives as GroupLens packs them, each in a folder of its own; what was asked for."""
    shelf: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = shelf.get(self.path.removeprefix("/"))
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(movielens, "ADDRESS", f"http://127.0.0.1:{server.server_port}")
    yield shelf, asked
    server.shutdown()
    thread.join()
    server.server_close()


def offer(shelf: dict[str, bytes], key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = RELEASES[key]
    top = {"ml10m": "ml-10M100K"}.get(key, release.archive.removesuffix(".zip"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in {**files(key.split("/")[0]), "README.txt": b"terms"}.items():
            file.writestr(f"{top}/{name}", data)
    data = shelf[release.archive] = buffer.getvalue()
    digest = hashlib.md5(data).hexdigest()
    shelf[f"{release.archive}.md5"] = f"{digest}  {release.archive}\n".encode()
    if release.md5 is not None:
        monkeypatch.setitem(movielens.RELEASES, key, replace(release, md5=digest))


@pytest.mark.parametrize("key", list(RELEASES))
def test_download(tmp_path: Path, grouplens: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    shelf, asked = grouplens
    offer(shelf, key, monkeypatch)
    name, _, edition = key.partition("/")
    more = {"edition": edition} if edition else {}
    said: list[str] = []
    movielens_files(config(tmp_path / "ml", name, download=True, **more), said.append)
    assert "licence: GroupLens terms" in said[0]
    assert len(asked) == (2 if edition else 1)
    source = read(tmp_path / "ml", name, tmp_path, download=True, **more)
    assert len(asked) == (2 if edition else 1)  # it is there now
    assert source.interactions.collect().height == 4
    assert source.card["fetched"]["url"].endswith(RELEASES[key].archive)
    assert source.card["fetched"]["md5_from"].endswith(".md5" if edition else "pinned in ckf")


def test_nothing_is_fetched_unasked(tmp_path: Path, grouplens: Any) -> None:
    _, asked = grouplens
    with pytest.raises(DataError, match=r"dataset\.download=true fetches them"):
        movielens_files(config(tmp_path, "ml1m"))
    assert asked == []


# --- the files beside the project -------------------------------------------------------------

SMALL = Path(__file__).parents[5] / "shared" / "data" / "ml-latest-small"


@pytest.mark.skipif(not SMALL.is_dir(), reason=f"{SMALL} is absent")
def test_latest_small(tmp_path: Path) -> None:
    source = read(SMALL, "ml_latest", tmp_path)
    rows = source.interactions.collect()
    assert (rows.height, rows["user"].n_unique(), rows["item"].n_unique()) == (100_836, 610, 9_724)
    assert round((rows["rating"] >= 4).mean(), 3) == 0.482  # type: ignore[arg-type]
    assert sorted(rows["rating"].unique()) == [x / 2 for x in range(1, 11)]
    assert items(source).height == 9_742
    assert rows.join(items(source), on="item", how="anti").is_empty()
