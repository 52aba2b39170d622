"""Where a run's artifacts are: in a named cache, at the same place relative to the run, or where they were made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ckf.core.artifact_store import ARTIFACT_FILE, read_json
from ckf.core.errors import ArtifactError

TEXT = "text"
"""The name of the text-only baseline, which is a run and lies with the runs."""
_FOUND = ("from_run", "looked_in")
_ON_THE_HUB = "@"
"""In the hash of a backbone that was given by path or name and is no artifact of the cache."""


def noted(artifacts: dict[str, dict[str, str]], run: Path) -> dict[str, dict[str, str]]:
    """Artifacts (``path``, ``hash`` and what else is known) as the metadata of ``run`` note them."""
    kept = {name: {key: value for key, value in one.items() if key not in _FOUND} for name, one in artifacts.items()}
    return {name: {**kept[name], **place_of(one["path"], run)} for name, one in artifacts.items()}


def place_of(path: str, run: Path) -> dict[str, str]:
    """How a run notes where an artifact is: its absolute path, and the path from the run, for when both are moved.

    What is no folder (the name of a backbone on the hub) is noted as it is.
    """
    if not Path(path).is_dir():
        return {"path": path}
    absolute = os.path.abspath(path)
    return {"path": absolute, "from_run": os.path.relpath(absolute, os.path.abspath(run))}


def located(artifacts: dict[str, Any], run: Path, cache: Path | None = None) -> dict[str, Any]:
    """The artifacts of a run with ``path`` where each one is; ``looked_in`` where it is in none of its places.

    An artifact counts as found when its hash is the one that the run was made from. ``cache`` is looked into first.
    """
    found = {}
    for name, entry in artifacts.items():
        places = _places(name, entry, run, cache)
        path = next((place for place in places if _is_there(name, entry, place)), None)
        if path is not None:
            found[name] = {**entry, "path": str(path)}
        elif _ON_THE_HUB in entry.get("hash", ""):
            found[name] = entry
        else:
            found[name] = {**entry, "looked_in": [str(place) for place in places]}
    return found


def artifact_path(metadata: dict[str, Any], name: str, run: Path) -> Path:
    """The path of an artifact of a run, from the metadata that `ckf.runs.folder.read_run` gives.

    Raises:
        ArtifactError: it is in none of its places; names them, and what helps.
    """
    entry = metadata["artifacts"][name]
    if "looked_in" not in entry:
        return Path(entry["path"])
    places = ", ".join(entry["looked_in"])
    if name == TEXT:
        raise ArtifactError(
            f"{run}: its text-only baseline, the run {entry['hash']}, is not at {places}; put it next to this run"
        )
    raise ArtifactError(
        f"{run}: its {name} artifact {entry['hash']} is not at {places}; name the cache that has it "
        f"(paths.cache=DIR), or `ckf rebuild run={run}` makes it from the run's config"
    )


def backbone_path(metadata: dict[str, Any], run: Path) -> str:
    """The folder of a run's backbone, or its name on the hub; empty for a run without one.

    Raises:
        ArtifactError: a tiny backbone that is in none of its places.
    """
    entry = metadata["artifacts"].get("backbone")
    if entry is None:
        return ""
    return str(entry["path"]) if _ON_THE_HUB in entry["hash"] else str(artifact_path(metadata, "backbone", run))


def _places(name: str, entry: dict[str, Any], run: Path, cache: Path | None) -> list[Path]:
    made = Path(entry["path"])
    places = [cache / made.parent.name / made.name] if cache is not None and name != TEXT else []
    places += [Path(os.path.normpath(run / entry["from_run"]))] if "from_run" in entry else []
    places += [run.parent / entry["hash"]] if name == TEXT else []
    return list(dict.fromkeys([*places, made]))


def _is_there(name: str, entry: dict[str, Any], place: Path) -> bool:
    if _ON_THE_HUB in entry.get("hash", ""):
        return place.is_dir()
    if name == TEXT:
        return place.name == entry["hash"] and (place / "metrics.json").is_file()
    stamp = place / ARTIFACT_FILE
    return stamp.is_file() and read_json(stamp).get("hash") == entry.get("hash")
