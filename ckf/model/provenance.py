"""Hashes of what a run was trained with and of what it learned: backbone, tokenizer, adapters and fusion."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from ckf.core.artifact_store import file_hash, fingerprint
from ckf.core.errors import ArtifactError

_BACKBONE_FILES = (
    "config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt",
    "chat_template*", "spiece.model",
)  # fmt: skip
_BACKBONE_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")
_TRAINED_FILES = ("config.yaml", "adapters/*/*", "fusion.safetensors", "fusion.json")
_COMMIT = "commit"


def identity(run: Path, backbone: str, revision: str | None = None) -> dict[str, dict[str, str]]:
    """Hashes of the backbone's files, and of the run's tokenizer, config and weights, by name.

    For a backbone on the hub the commit identifies the weights; for a folder the weights are hashed.
    """
    return {"backbone": _backbone(backbone, revision), **_run_hashes(run)}


def backbone_content(path: str, revision: str | None = None) -> str | None:
    """What a backbone holds, under any path: a hash of a folder's files, the commit of a hub model in the cache.

    None for a hub model that is not in the cache.
    """
    found = _backbone(path, revision)
    return (found.get(_COMMIT) or f"sha256:{fingerprint(found)}") if found else None


def weights_content(path: str, revision: str | None = None) -> str | None:
    """Like `backbone_content`, of the weights alone: an adapter does not depend on the tokenizer."""
    folder = Path(path)
    if not folder.is_dir():
        return backbone_content(path, revision)
    return f"sha256:{fingerprint(sorted(_hashes(folder, _BACKBONE_WEIGHTS).values()))}"


def _run_hashes(run: Path) -> dict[str, dict[str, str]]:
    return {"tokenizer": _hashes(run / "tokenizer", _BACKBONE_FILES), "weights": _hashes(run, _TRAINED_FILES)}


def check_identity(run: Path, metadata: dict[str, Any], backbone: str, revision: str | None = None) -> None:
    """Refuse a run whose backbone, tokenizer, config or weights are no longer what they were after training.

    Metadata without hashes is not checked.

    Raises:
        ArtifactError: a file is missing or differs; the message names it.
    """
    recorded = metadata.get("identity")
    if not recorded:
        return
    if not (run / "tokenizer").is_dir():
        raise ArtifactError(
            f"{run / 'tokenizer'}: is gone; the same `ckf` command with overwrite=true makes the run again"
        )
    if _COMMIT not in recorded["backbone"] and not Path(backbone).is_dir():
        raise ArtifactError(
            f"{run}: its backbone {backbone} is not there; put it back, or into the same place relative to the run"
        )
    now = identity(run, backbone, revision)
    for file, digest in recorded.get("weights", {}).items():
        if file not in now["weights"]:
            raise ArtifactError(
                f"{run / file}: is gone; the same `ckf` command with overwrite=true makes the run again"
            )
        if now["weights"][file] != digest:
            raise ArtifactError(
                f"{run / file}: was altered after training (sha256 {now['weights'][file][:12]}, was {digest[:12]})"
            )
    for part, where in (("backbone", backbone), ("tokenizer", str(run / "tokenizer"))):
        if part == "backbone" and not now[part]:
            continue  # a hub model that is not in the cache yet: it is fetched on loading
        if problem := _difference(recorded[part], now[part]):
            raise ArtifactError(f"{run}: its {part} {where} is not the one it was trained with: {problem}")


def _difference(recorded: dict[str, str], now: dict[str, str]) -> str | None:
    for name in sorted({*recorded, *now}, key=lambda name: (name != _COMMIT, name)):
        if name not in now:
            return f"{name} is gone"
        if name not in recorded:
            return f"{name} is new"
        if name == _COMMIT and recorded[name] != now[name]:
            return f"its commit is {now[name]}, was {recorded[name]}"
        if recorded[name] != now[name]:
            return f"{name} differs (sha256 {now[name][:12]}, was {recorded[name][:12]})"
    return None


def _backbone(path: str, revision: str | None) -> dict[str, str]:
    folder = Path(path)
    if folder.is_dir():
        return _hashes(folder, _BACKBONE_FILES + _BACKBONE_WEIGHTS)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(path, "config.json", revision=revision)
    if not isinstance(found, str):
        return {}
    snapshot = Path(found).parent  # <cache>/models--…/snapshots/<commit>
    return {_COMMIT: snapshot.name, **_hashes(snapshot, ("config.json",))}


def _hashes(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return {str(path.relative_to(folder)): _hash(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@lru_cache(maxsize=256)
def _hash(path: Path, size: int, changed: int) -> str:
    """Hash a file once a process while its size and time do not change; training and scoring both need it."""
    return file_hash(path)
