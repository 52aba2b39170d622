"""``ckf rebuild``: make the artifacts that a run has lost, from its own config, to the same hashes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ckf.config.compose import with_overrides
from ckf.config.schema import ExperimentConfig, TinyBackboneConfig
from ckf.core.artifact_store import Artifact
from ckf.core.errors import ArtifactError
from ckf.pipeline.artifacts import (
    backbone_key,
    cf_key,
    dataset_key,
    examples_key,
    fit_bias_baseline,
    get_backbone,
    hash_of,
    log,
    prepare_dataset,
    prepare_examples,
    train_cf,
    with_bias,
)
from ckf.runs.artifact_places import TEXT, place_of
from ckf.runs.folder import read_run, update_metadata

OVERRIDES = ("dataset.", "cf.", "paths.")
"""Keys that may be overridden: where source files are now. What is made must have the run's hashes all the same."""


def rebuild(run: Path, overrides: Sequence[str], cache: Path | None) -> Path:
    """Make a run's missing artifacts and note where they are; nothing is trained but CF models and the tiny backbone.

    ``cache``: where artifacts are looked for and made; without it, where the run's config says.

    Raises:
        ArtifactError: the config or its sources give another artifact; nothing has been made then.
    """
    exp, metadata = read_run(run, cache)
    exp = with_overrides(exp, list(overrides), allowed=OVERRIDES) if overrides else exp
    if cache is not None:
        exp = dataclasses.replace(exp, paths=dataclasses.replace(exp.paths, cache=str(cache)))
    entries: dict[str, dict[str, Any]] = metadata["artifacts"]
    missing = [name for name, entry in entries.items() if "looked_in" in entry and name != TEXT]
    if "backbone" in missing and not isinstance(exp.backbone, TinyBackboneConfig):
        missing.remove("backbone")
    _check(run, exp, entries, missing)

    def have(name: str, make: Callable[[], Artifact]) -> Artifact:
        if name in missing:
            return make()
        return Artifact(Path(entries[name]["path"]), entries[name]["hash"], reused=True)

    dataset = have("dataset", lambda: prepare_dataset(exp))
    examples = have("examples", lambda: prepare_examples(exp, dataset))
    made = {"dataset": dataset.path, "examples": examples.path}
    made["bias"] = have("bias", lambda: fit_bias_baseline(exp, dataset, examples)).path
    made["cf"] = have("cf", lambda: train_cf(exp, dataset, examples)).path
    if "backbone" in missing:
        made["backbone"] = Path(get_backbone(exp, dataset)[0])
    places = {name: {**_noted(entries[name]), **place_of(str(path), run)} for name, path in made.items()}
    update_metadata(run, artifacts=places)
    log(f"rebuild: made {', '.join(missing)}" if missing else "rebuild: nothing is missing")
    if "looked_in" in entries.get(TEXT, {}):
        log(f"rebuild: the text-only baseline {entries[TEXT]['hash']} is a run of its own; put it next to this one")
    return run


def _noted(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "looked_in"}


def _check(run: Path, exp: ExperimentConfig, entries: dict[str, dict[str, Any]], missing: Sequence[str]) -> None:
    """Compare the hashes of what would be made with those of the run, before anything is made."""
    from ckf.data.prepare import source_hashes

    dataset, examples = entries["dataset"]["hash"], entries["examples"]["hash"]
    keys: dict[str, Callable[[], dict[str, Any]]] = {
        "dataset": lambda: dataset_key(exp, source_hashes(exp.dataset)),
        "examples": lambda: examples_key(exp, dataset),
        "bias": lambda: cf_key(with_bias(exp), dataset, examples),
        "cf": lambda: cf_key(exp, dataset, examples),
        "backbone": lambda: backbone_key(exp, dataset),
    }
    for name in missing:
        found = hash_of(keys[name]())
        if found != entries[name]["hash"]:
            why = "the source files are others than they were" if name == "dataset" else "its config has changed"
            raise ArtifactError(
                f"{run}: would give the {name} artifact {found}, and the run was made from {entries[name]['hash']}: "
                f"{why}, or this version of ckf makes it otherwise; nothing was built"
            )
