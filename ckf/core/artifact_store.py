"""Content-addressed artifacts: built once in a temporary folder, under a lock, then renamed to their final path.

An artifact lives at ``<cache>/<stage>/<name>-<hash>/``; the hash is made of the stage's resolved
settings, the hashes of its inputs and a format version, so equal work is never done twice and
different work never shares a folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from ckf.core.errors import ArtifactError

FORMAT = 2
"""Format of configs, run folders and artifacts. It is part of every fingerprint; another format is refused."""
ARTIFACT_FILE = "artifact.json"


def to_jsonable(value: Any) -> Any:
    """Turn dataclasses, paths and tuples into what JSON can hold, recursively."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON of a value. JSON has no NaN and no infinity: they become null."""
    return json.dumps(_finite(to_jsonable(value)), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fingerprint(*parts: Any) -> str:
    """Hash settings by their content; the order of keys does not matter. 12 hexadecimal digits."""
    text = json.dumps([FORMAT, *map(to_jsonable, parts)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically (a reader sees the old file or the new one, never half of it)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json_text(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Read a JSON file of ours; a missing or broken file raises an `ArtifactError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file") from None
    except ValueError as error:
        raise ArtifactError(f"{path}: not valid JSON ({error})") from None


def read_json_lines(path: Path, *, drop_cut_end: bool = False) -> list[dict[str, Any]]:
    """Read a file of ours with one JSON object a line; empty where there is no file.

    ``drop_cut_end`` leaves out a last line that is not JSON: its writer was killed.

    Raises:
        ArtifactError: names a line that is not JSON.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(json.loads(line))
        except ValueError:
            if drop_cut_end and number == len(lines):
                break
            raise ArtifactError(f"{path}: line {number} is not JSON") from None
    return found


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder, its hash, and whether it was found rather than built."""

    path: Path
    hash: str
    reused: bool


def set_usual_modes(folder: Path) -> None:
    """Give a folder and the weights below it the modes of new ones, as the umask has them.

    ``mkdtemp`` and safetensors give the owner alone a right to what they make.
    """
    probe = folder / ".mode"
    probe.mkdir()
    folder.chmod(probe.stat().st_mode)
    probe.rmdir()
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(mode)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` (absent or empty) when the block ends, and is removed when it fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield temporary
        set_usual_modes(temporary)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Store:
    """The artifact cache below one folder."""

    def __init__(self, root: Path, log: Callable[[str], None] = lambda line: None) -> None:
        self.root = root
        self.log = log

    def path_of(self, stage: str, name: str, settings: Any, inputs: list[str]) -> Path:
        """The folder of the artifact with these settings and input hashes, built or not."""
        return self.root / stage / f"{name}-{fingerprint(stage, settings, inputs)}"

    def get(self, stage: str, name: str, settings: Any, inputs: list[str], build: Callable[[Path], None]) -> Artifact:
        """Return the artifact made by ``build`` from these settings and input hashes, building it if needed.

        ``build`` gets an empty folder and fills it. It runs in one process at a time for each
        artifact; when it raises, nothing is left behind.
        """
        digest = fingerprint(stage, settings, inputs)
        path = self.path_of(stage, name, settings, inputs)
        if (path / ARTIFACT_FILE).is_file():
            self.log(f"{stage}: reusing {path}")
            return Artifact(path, digest, reused=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if (path / ARTIFACT_FILE).is_file():
                self.log(f"{stage}: reusing {path}")
                return Artifact(path, digest, reused=True)
            self.log(f"{stage}: building {path}")
            with new_folder(path) as temporary:
                build(temporary)
                write_json(
                    temporary / ARTIFACT_FILE, {"stage": stage, "hash": digest, "settings": settings, "inputs": inputs}
                )
                if path.exists():  # left by a version that wrote in place, or by hand: it has no artifact.json
                    shutil.rmtree(path)
        return Artifact(path, digest, reused=False)
