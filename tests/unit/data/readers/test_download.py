"""Fetching an archive from a server on this machine: resume, checksum, licence, offline, unsafe members."""

from __future__ import annotations

import hashlib
import io
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ckf.core.errors import DataError
from ckf.data.readers import download
from ckf.data.readers.download import Archive, fetch_archive, fetch_record


class Shelf:
    """What the server offers, what it was asked for, and how often it breaks off."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.break_after: list[int] = []
        self.resumes = True
        self.url = ""


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    state = Shelf()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            data = state.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.resumes else 0
            if start and start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            end = start + state.break_after.pop(0) if state.break_after else len(data)
            self.wfile.write(data[start:end])

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


MEMBERS = {"ml-x/ratings.csv": b"userId\n" * 5000, "ml-x/movies.csv": b"movieId\n", "ml-x/more/README.txt": b"terms\n"}


def offered(shelf: Shelf, members: dict[str, bytes] = MEMBERS, *, pinned: bool = True) -> Archive:
    data = zipped(members)
    shelf.files["/x.zip"] = data
    digest = hashlib.md5(data).hexdigest()
    shelf.files["/x.zip.md5"] = f"MD5 (x.zip) = {digest}\n".encode()
    return Archive(f"{shelf.url}/x.zip", digest if pinned else None, "research use only")


NEEDED = ["ratings.csv", "movies.csv"]


def left(target: Path) -> set[str]:
    return {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_the_licence_is_shown_before_the_first_request(tmp_path: Path, shelf: Shelf) -> None:
    archive, said = offered(shelf), []

    def say(line: str) -> None:
        said.append((line, len(shelf.asked)))

    fetch_archive(archive, tmp_path, NEEDED, say)
    assert "licence: research use only" in said[0][0]
    assert said[0][1] == 0
    assert (tmp_path / "ratings.csv").read_bytes() == MEMBERS["ml-x/ratings.csv"]
    assert left(tmp_path) == {"ratings.csv", "movies.csv", "more/README.txt", "source.json"}
    assert fetch_record(tmp_path)["md5_from"] == "pinned in ckf"


def test_what_is_there_is_neither_fetched_nor_overwritten(tmp_path: Path, shelf: Shelf) -> None:
    archive = offered(shelf)
    (tmp_path / "ratings.csv").write_text("mine")
    fetch_archive(archive, tmp_path, ["ratings.csv"], lambda line: None)
    assert shelf.asked == []
    fetch_archive(archive, tmp_path, NEEDED, lambda line: None)
    assert (tmp_path / "ratings.csv").read_text() == "mine"
    assert (tmp_path / "movies.csv").read_bytes() == b"movieId\n"


def test_a_broken_transfer_goes_on_where_it_stopped(tmp_path: Path, shelf: Shelf) -> None:
    archive, said = offered(shelf), []
    shelf.break_after = [100, 50]
    fetch_archive(archive, tmp_path, NEEDED, said.append)
    assert shelf.asked == [("/x.zip", None), ("/x.zip", "bytes=100-"), ("/x.zip", "bytes=150-")]
    assert any("broke off after 150 bytes" in line for line in said)
    assert (tmp_path / "ratings.csv").read_bytes() == MEMBERS["ml-x/ratings.csv"]


def test_a_server_that_keeps_breaking_off_is_left_with_what_was_fetched(tmp_path: Path, shelf: Shelf) -> None:
    archive = offered(shelf)
    shelf.break_after = [70, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"x\.zip: broke off after 70 bytes .* the same command goes on"):
        fetch_archive(archive, tmp_path, NEEDED, lambda line: None)
    assert left(tmp_path) == {".x.zip.part"}
    shelf.asked.clear()
    shelf.break_after = []
    fetch_archive(archive, tmp_path, NEEDED, lambda line: None)
    assert shelf.asked == [("/x.zip", "bytes=70-")]


def test_a_server_that_cannot_resume_starts_again(tmp_path: Path, shelf: Shelf) -> None:
    archive = offered(shelf)
    shelf.break_after, shelf.resumes = [100], False
    fetch_archive(archive, tmp_path, NEEDED, lambda line: None)
    assert (tmp_path / "ratings.csv").read_bytes() == MEMBERS["ml-x/ratings.csv"]


def test_a_complete_part_is_not_fetched_again(tmp_path: Path, shelf: Shelf) -> None:
    archive = offered(shelf)
    (tmp_path / ".x.zip.part").write_bytes(shelf.files["/x.zip"])
    fetch_archive(archive, tmp_path, NEEDED, lambda line: None)
    assert (tmp_path / "movies.csv").is_file()


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, shelf: Shelf) -> None:
    archive = offered(shelf)
    shelf.files["/x.zip"] = zipped({**MEMBERS, "ml-x/movies.csv": b"forged"})
    with pytest.raises(DataError, match=rf"x\.zip: MD5 is [0-9a-f]{{32}}, expected {archive.md5}"):
        fetch_archive(archive, tmp_path, NEEDED, lambda line: None)
    assert left(tmp_path) == set()


def test_a_moving_archive_is_checked_against_the_published_sum(tmp_path: Path, shelf: Shelf) -> None:
    archive = offered(shelf, pinned=False)
    fetch_archive(archive, tmp_path / "a", NEEDED, lambda line: None)
    assert fetch_record(tmp_path / "a")["md5_from"] == f"{shelf.url}/x.zip.md5"
    shelf.files["/x.zip.md5"] = f"{'0' * 32}  x.zip\n".encode()
    with pytest.raises(DataError, match=f"expected {'0' * 32}"):
        fetch_archive(archive, tmp_path / "b", NEEDED, lambda line: None)
    shelf.files["/x.zip.md5"] = b"<html>moved</html>"
    with pytest.raises(DataError, match=r"x\.zip\.md5: holds no MD5 checksum"):
        fetch_archive(archive, tmp_path / "c", NEEDED, lambda line: None)


def test_offline(tmp_path: Path, shelf: Shelf) -> None:
    closed = Archive("http://127.0.0.1:9/ml-1m.zip", "0" * 32, "terms")
    for archive in (closed, Archive(closed.url, None, "terms")):
        with pytest.raises(DataError) as caught:
            fetch_archive(archive, tmp_path, NEEDED, lambda line: None)
        assert str(caught.value).startswith("http://127.0.0.1:9/ml-1m.zip: cannot be reached (")
        assert "fetch ml-1m.zip elsewhere and unpack it into dataset.root" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_server_that_refuses(tmp_path: Path, shelf: Shelf) -> None:
    with pytest.raises(DataError, match=r"/gone\.zip: the server answers 404 Not Found"):
        fetch_archive(Archive(f"{shelf.url}/gone.zip", "0" * 32, "terms"), tmp_path, NEEDED, lambda line: None)


@pytest.mark.parametrize("name", ["../evil.csv", "ml-x/../../evil.csv", "/evil.csv", "..\\evil.csv", "C:\\evil.csv"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path: Path, shelf: Shelf, name: str) -> None:
    archive = offered(shelf, {**MEMBERS, name: b"evil"})
    with pytest.raises(DataError, match="leaves the target folder; nothing is unpacked"):
        fetch_archive(archive, tmp_path / "in", NEEDED, lambda line: None)
    assert left(tmp_path) == {"in/.x.zip.part"}


def test_a_link_in_the_archive_is_refused(tmp_path: Path, shelf: Shelf) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for member, data in MEMBERS.items():
            file.writestr(member, data)
        link = zipfile.ZipInfo("ml-x/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    data = shelf.files["/x.zip"] = buffer.getvalue()
    archive = Archive(f"{shelf.url}/x.zip", hashlib.md5(data).hexdigest(), "terms")
    with pytest.raises(DataError, match="member 'ml-x/link' leaves the target folder"):
        fetch_archive(archive, tmp_path, NEEDED, lambda line: None)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"no zip at all", "not a usable zip"),
        (zipped({"ml-x/tags.csv": b""}), "lacks ratings.csv, movies.csv"),
    ],
)
def test_an_archive_of_no_use(tmp_path: Path, shelf: Shelf, data: bytes, problem: str) -> None:
    shelf.files["/x.zip"] = data
    archive = Archive(f"{shelf.url}/x.zip", hashlib.md5(data).hexdigest(), "terms")
    with pytest.raises(DataError, match=problem):
        fetch_archive(archive, tmp_path, NEEDED, lambda line: None)
    assert left(tmp_path) == {".x.zip.part"}


def test_a_target_that_cannot_be_written(tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.shutil, "copyfileobj", full)
    with pytest.raises(DataError, match=r"dataset\.root: .*: No space left on device"):
        fetch_archive(offered(shelf), tmp_path, NEEDED, lambda line: None)
    assert left(tmp_path) == {".x.zip.part"}
