"""Run folders: names, files, metadata, and whether a run is finished."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from ckf.config.schema import ExperimentConfig
from ckf.config.serialization import fingerprint_payload, load_yaml, to_yaml
from ckf.core.artifact_store import fingerprint, read_json, write_json
from ckf.core.errors import ArtifactError
from ckf.runs.artifact_places import located, noted

METRICS, CONFIG, METADATA = "metrics.json", "config.yaml", "run.json"
LISTS_LEFT_OUT = "candidate_lists_left_out"
"""The metric of a split that counts lists of a candidate file that are for none of its examples."""
LAST, PREVIOUS = "checkpoints/last.ckpt", "checkpoints/previous.ckpt"


def run_folder(exp: ExperimentConfig, dataset_hash: str) -> Path:
    """Name a run's folder by dataset, backbone, model, the hash of its config and input data, and the seed."""
    digest = fingerprint(fingerprint_payload(exp), dataset_hash)
    parts = [exp.dataset.name, exp.backbone.name, exp.fusion.name if exp.backbone.name != "none" else exp.cf.name]
    return Path(exp.paths.outputs) / f"{'-'.join(parts)}-{digest}-seed{exp.seed}"


def result_key(exp: ExperimentConfig) -> str:
    """A run's key that needs no data: config hash and seed. Kept results are stored under it."""
    return f"{fingerprint(fingerprint_payload(exp))}-seed{exp.seed}"


def is_finished(run: Path) -> bool:
    """Whether the run has its metrics; they are written last."""
    return (run / METRICS).is_file()


def create_run(run: Path, exp: ExperimentConfig, artifacts: dict[str, dict[str, str]]) -> None:
    """Create the folder with its config and the artifacts it is made from."""
    run.mkdir(parents=True, exist_ok=True)
    (run / CONFIG).write_text(to_yaml(exp), encoding="utf-8")
    write_json(
        run / METADATA,
        {"artifacts": noted(artifacts, run), "seed": exp.seed, "started": _now(), "stages": {}, **environment()},
    )


def read_run(run: Path, cache: Path | None = None) -> tuple[ExperimentConfig, dict[str, Any]]:
    """Read the config and metadata of a run folder; its artifacts are looked for, in ``cache`` first.

    Raises:
        ArtifactError: the folder is not a run.
    """
    if not (run / CONFIG).is_file():
        raise ArtifactError(f"{run}: not a run folder (no {CONFIG}); runs are made by `ckf` or `ckf train`")
    metadata = read_json(run / METADATA)
    return load_yaml(run / CONFIG), {**metadata, "artifacts": located(metadata.get("artifacts", {}), run, cache)}


def update_metadata(run: Path, **values: Any) -> None:
    """Merge values into the run's metadata; dictionaries are merged one level deep."""
    metadata = read_json(run / METADATA)
    for key, value in values.items():
        metadata[key] = {**metadata.get(key, {}), **value} if isinstance(value, dict) else value
    write_json(run / METADATA, metadata)


def environment() -> dict[str, Any]:
    """Collect the git commit, package versions and machine for the metadata."""
    names = ("ckf", "torch", "pytorch-lightning", "transformers", "peft", "hydra-core", "pandas", "wandb")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "git": _git_commit(),
        "versions": versions,
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
    }


def _git_commit() -> str | None:
    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() if done.returncode == 0 else None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
