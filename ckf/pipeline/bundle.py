"""``ckf export format=bundle``: a run with everything that it reads, in one folder that can be moved anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ckf.config.schema import ExperimentConfig
from ckf.core.artifact_store import new_folder, write_json
from ckf.core.errors import ArtifactError
from ckf.model.provenance import check_identity, identity
from ckf.runs.artifact_places import TEXT, artifact_path, backbone_path
from ckf.runs.folder import CONFIG, METADATA, METRICS, is_finished, read_run

_LEFT_OUT = ("checkpoints", "wandb", "artifacts")
_OF_THE_TEXT_RUN = (CONFIG, METADATA, METRICS)


def write_bundle(run: Path, out: Path, cache: Path | None = None) -> Path:
    """Copy a finished run, its artifacts and its backbone to the new folder ``out``; nothing is left there on failure.

    Of the text-only baseline its predictions and figures are copied, of the run all but checkpoints.

    Raises:
        ArtifactError: the run is not finished, an artifact is missing, or ``out`` is not empty.
    """
    exp, metadata = read_run(run, cache)
    if not is_finished(run):
        raise ArtifactError(f"{run}: not finished (no {METRICS}); the same `ckf` command continues it")
    if out.exists() and any(out.iterdir()):
        raise ArtifactError(f"{out}: is not empty; export into a new folder")
    revision = getattr(exp.backbone, "revision", None)
    backbone = backbone_path(metadata, run)
    if backbone:
        check_identity(run, metadata, backbone, revision)
    names = [name for name in metadata["artifacts"] if name not in ("backbone", TEXT)]
    sources = {name: artifact_path(metadata, name, run) for name in names}
    text = artifact_path(metadata, TEXT, run) if TEXT in metadata["artifacts"] else None
    with new_folder(out) as temporary:
        shutil.copytree(run, temporary, dirs_exist_ok=True, ignore=_ignore(run))
        for name, path in sources.items():
            shutil.copytree(path, temporary / "artifacts" / name / path.name)
            _note(metadata, name, path.name)
        if text is not None:
            _copy_text_run(text, temporary / "artifacts" / TEXT / text.name)
            _note(metadata, TEXT, text.name)
        if backbone:
            folder = _backbone_folder(exp, backbone)
            shutil.copytree(folder, temporary / "artifacts" / "backbone" / folder.name)
            _note(metadata, "backbone", folder.name)
            if "identity" in metadata:  # that of a hub name is a commit, that of a folder its files
                kept = identity(run, str(temporary / "artifacts" / "backbone" / folder.name))
                metadata["identity"] = {**metadata["identity"], "backbone": kept["backbone"]}
        write_json(temporary / METADATA, metadata)
    return out


def _ignore(run: Path) -> Any:
    """Leave out what the bundle does not need, at the top of the run only."""
    return lambda folder, names: [n for n in names if n in _LEFT_OUT] if Path(folder) == run else []


def _note(metadata: dict[str, Any], name: str, folder: str) -> None:
    place = f"artifacts/{name}/{folder}"
    metadata["artifacts"][name] = {**metadata["artifacts"][name], "path": place, "from_run": place}


def _copy_text_run(run: Path, target: Path) -> None:
    shutil.copytree(run / "predictions", target / "predictions")
    for name in _OF_THE_TEXT_RUN:
        shutil.copyfile(run / name, target / name)


def _backbone_folder(exp: ExperimentConfig, backbone: str) -> Path:
    """The folder of a backbone; that of a hub name is its snapshot in the hub's cache.

    Raises:
        ArtifactError: it is not in the cache.
    """
    if Path(backbone).is_dir():
        return Path(backbone)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(backbone, "config.json", revision=getattr(exp.backbone, "revision", None))
    if not isinstance(found, str):
        raise ArtifactError(f"backbone.path: '{backbone}' is not in the hub's cache; load it once, then export again")
    return Path(found).parent
