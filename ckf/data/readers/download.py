"""Fetch an archive: check the licence, resume, verify, unpack in a temporary folder, move into place.

Only the standard library, and TLS is always verified. What was fetched, from where and against which
checksum goes to ``source.json`` in the target folder, so that the dataset's card can repeat it.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from ckf import __version__
from ckf.core.artifact_store import read_json, write_json
from ckf.core.errors import DataError

RECORD = "source.json"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0
_ATTEMPTS = 4


@dataclass(frozen=True)
class Archive:
    """A published zip.

    With ``md5=None`` the content changes over time, so the published checksum (``url`` + .md5) is read.
    """

    url: str
    md5: str | None
    licence: str

    @property
    def name(self) -> str:
        """File name of the zip."""
        return self.url.rsplit("/", 1)[-1]


def fetch_archive(archive: Archive, target: Path, needed: list[str], say: Callable[[str], None] = print) -> None:
    """Put the archive's files into ``target`` (its single top folder is taken off), unless they are there.

    A transfer that breaks off is tried again from where it stopped, and by the next call too. Files that
    are there already are never overwritten.

    Raises:
        DataError: offline, refused by the server, wrong checksum, not a zip, unsafe member, disk full.
    """
    if all((target / name).is_file() for name in needed):
        return
    try:
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(target / f".{archive.name}.lock"):
            if all((target / name).is_file() for name in needed):  # another process was first
                return
            say(f"{archive.url}\n  licence: {archive.licence}")
            part = target / f".{archive.name}.part"
            expected, published = archive.md5, "pinned in ckf"
            if expected is None:
                expected, published = _published_md5(archive), f"{archive.url}.md5"
            _download(archive, part, say)
            _verify(archive, part, expected)
            _unpack(archive, part, target, needed)
            write_json(
                target / RECORD,
                {"url": archive.url, "md5": expected, "md5_from": published, "licence": archive.licence},
            )
            part.unlink()
    except OSError as error:  # of the disk: those of the network are named where they happen
        raise DataError(f"dataset.root: {target}: {error.strerror or error}") from None


def fetch_record(target: Path) -> dict[str, Any]:
    """What `fetch_archive` noted in ``target``; empty for files that came another way."""
    path = target / RECORD
    return dict(read_json(path)) if path.is_file() else {}


def _open(url: str, start: int = 0) -> Any:
    headers = {"User-Agent": f"ckf/{__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)


def _by_hand(archive: Archive) -> str:
    return f"fetch {archive.name} elsewhere and unpack it into dataset.root"


def _unreachable(archive: Archive, error: Exception) -> DataError:
    if isinstance(error, urllib.error.HTTPError):
        return DataError(f"{error.url}: the server answers {error.code} {error.reason}; {_by_hand(archive)}")
    reason = getattr(error, "reason", None) or error
    return DataError(f"{archive.url}: cannot be reached ({reason}); offline? Then {_by_hand(archive)}")


def _published_md5(archive: Archive) -> str:
    try:
        with _open(f"{archive.url}.md5") as answer:
            text = answer.read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(archive, error) from None
    found = re.search(r"(?<![0-9a-fA-F])[0-9a-fA-F]{32}(?![0-9a-fA-F])", text)
    if not found:
        raise DataError(f"{archive.url}.md5: holds no MD5 checksum; {_by_hand(archive)}")
    return found[0].lower()


def _download(archive: Archive, part: Path, say: Callable[[str], None]) -> None:
    """Append to ``part`` until the server's length is reached; give up after some attempts without progress."""
    left = _ATTEMPTS
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            if _transfer(archive, part, before, say):
                return
            reason: object = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what we have is as long as the file, or longer: the checksum decides
                return
            raise _unreachable(archive, error) from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            if not part.is_file() or not part.stat().st_size:
                raise _unreachable(archive, error) from None
            reason = getattr(error, "reason", None) or error
        now = part.stat().st_size if part.is_file() else 0
        left = _ATTEMPTS if now > before else left - 1
        if left <= 0:
            raise DataError(
                f"{archive.url}: broke off after {now:,} bytes ({reason}); they are kept, the same command goes on"
            )
        say(f"{archive.name}: broke off after {now:,} bytes ({reason}); going on from there")


def _transfer(archive: Archive, part: Path, start: int, say: Callable[[str], None]) -> bool:
    """One request; whether it brought all that the server announced."""
    with _open(archive.url, start) as answer:
        if start and answer.status != 206:  # the server cannot resume and sends the whole file
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        shown = f" of {total:,}" if total is not None else ""
        say(f"{archive.name}: {'going on at' if start else 'reading from'} byte {start:,}{shown}")
        with part.open("ab" if start else "wb") as file:
            while block := answer.read(_CHUNK_BYTES):
                file.write(block)
    return total is None or part.stat().st_size >= total


def _verify(archive: Archive, part: Path, expected: str) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        part.unlink()
        raise DataError(
            f"{archive.url}: MD5 is {found}, expected {expected}; the transfer was damaged or the file has changed. "
            "What was fetched is removed; try again"
        )


def _unpack(archive: Archive, part: Path, target: Path, needed: list[str]) -> None:
    """Unpack into a temporary folder, then move. A killed run leaves no half-written file under its real name."""
    beside = Path(tempfile.mkdtemp(prefix=".unpack.", dir=target))
    try:
        with zipfile.ZipFile(part) as packed:
            members = [(info, _safe(archive, info)) for info in packed.infolist() if not info.is_dir()]
            tops = {path.parts[0] for _, path in members}
            strip = len(tops) == 1 and all(len(path.parts) > 1 for _, path in members)
            places = {PurePosixPath(*path.parts[strip:]): info for info, path in members}
            missing = [name for name in needed if PurePosixPath(name) not in places]
            if missing:
                raise DataError(f"{archive.url}: the archive lacks {', '.join(missing)}")
            for place, info in places.items():
                (beside / place).parent.mkdir(parents=True, exist_ok=True)
                with packed.open(info) as source, (beside / place).open("wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK_BYTES)
        for place in places:
            if not (target / place).exists():
                (target / place).parent.mkdir(parents=True, exist_ok=True)
                (beside / place).replace(target / place)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DataError(f"{archive.url}: not a usable zip ({error})") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _safe(archive: Archive, info: zipfile.ZipInfo) -> PurePosixPath:
    """The member's path, if it stays inside the target and is a plain file."""
    path = PurePosixPath(info.filename.replace("\\", "/"))
    leaves = path.is_absolute() or ".." in path.parts or ":" in info.filename or not path.parts
    if leaves or stat.S_ISLNK(info.external_attr >> 16):
        raise DataError(f"{archive.url}: member '{info.filename}' leaves the target folder; nothing is unpacked")
    return path
