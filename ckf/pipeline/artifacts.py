"""Artifacts of an experiment: each function returns one, made once from a config and the artifacts before it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckf.config.schema import (
    BiasConfig,
    EmbeddingConfig,
    ExperimentConfig,
    HFBackboneConfig,
    PopularityConfig,
    PretrainedConfig,
    TinyBackboneConfig,
)
from ckf.core.artifact_store import Artifact, Store, fingerprint, read_json, to_jsonable
from ckf.core.errors import DataError
from ckf.tasks import BUILT_IN

if TYPE_CHECKING:
    from ckf.cf.trainer import OnEpoch


def log(line: str) -> None:
    """Print a line of progress; the last line of stdout must stay the run folder."""
    print(line, flush=True)


def store(exp: ExperimentConfig) -> Store:
    """The artifact cache of an experiment."""
    return Store(Path(exp.paths.cache), log)


def hash_of(key: dict[str, Any]) -> str:
    """The hash of the artifact with this key, built or not."""
    return fingerprint(key["stage"], key["settings"], key["inputs"])


def prepare_dataset(exp: ExperimentConfig) -> Artifact:
    """Interactions, items, users and their manifest."""
    from ckf.data.prepare import build_dataset, source_hashes

    hashes = source_hashes(exp.dataset)
    made = store(exp).get(
        **dataset_key(exp, hashes), build=lambda out: build_dataset(exp.dataset, exp.split, out, hashes)
    )
    _warn(made)
    return made


def dataset_key(exp: ExperimentConfig, hashes: dict[str, str]) -> dict[str, Any]:
    """What the dataset is made from: settings, and the hashes of its source files (`source_hashes`)."""
    settings = {**to_jsonable(exp.dataset), **{f"split.{k}": v for k, v in to_jsonable(exp.split).items()}}
    for key in ("root", "download"):  # input files count by content, not by where they lie or come from
        settings.pop(key, None)
    for key in ("supported_tasks", "memory_mb"):  # of runs and the machine
        settings.pop(key)
    inputs = [f"{name}:{digest}" for name, digest in sorted(hashes.items())]
    return {"stage": "dataset", "name": exp.dataset.name, "settings": settings, "inputs": inputs}


def data_warnings(*folders: Path) -> list[str]:
    """What was guessed or lost when dataset and examples were made; each line is a caveat of a run's report."""
    return [line for folder in folders for line in read_json(folder / "manifest.json").get("warnings", [])]


def _warn(made: Artifact) -> None:
    for line in data_warnings(made.path):
        log(f"warning: {line}")


def check_likes(exp: ExperimentConfig, dataset: Artifact) -> None:
    """Refuse tasks of likes and dislikes on data that hold one of the two.

    Raises:
        DataError: names the task and why there is one class alone.
    """
    manifest = read_json(dataset.path / "manifest.json")
    both = [entry.name for entry in exp.task_mix if entry.known_task and not entry.known_task.likes_suffice]
    fault = manifest.get("like_fault")
    if both and fault:
        raise DataError(f"{both[0]}: {fault}")
    if both and manifest.get("feedback") == "implicit":
        raise DataError(
            f"{both[0]}: all {manifest['interactions']:,} rows are likes (implicit feedback), so nothing is a No; "
            "use tasks=ctr_sampled (likes against drawn items) or tasks=topk"
        )


def prepare_examples(exp: ExperimentConfig, dataset: Artifact) -> Artifact:
    """Prepare the examples of every task that the dataset supports, audited for leaks.

    Raises:
        LeakError: the audit stops; no examples are kept, but its report is, below ``audits`` in the cache.
    """
    from ckf.data.audit import LeakError, write_audit
    from ckf.data.examples import build_examples

    key = examples_key(exp, dataset.hash)
    tasks = key["settings"]["tasks"]

    def build(out: Path) -> None:
        build_examples(
            dataset.path,
            tasks,
            history_items=exp.tasks.history_items,
            candidates=exp.tasks.candidates,
            review_words=exp.tasks.review_words,
            seed=exp.tasks.negatives_seed,
            history_same_timestamp=exp.tasks.history_same_timestamp,
            negatives=exp.tasks.negatives,
            protocol=exp.tasks.protocol,
            out=out,
            known=exp.task_set,
        )

    try:
        made = store(exp).get(**key, build=build)
    except LeakError as error:
        kept = Path(exp.paths.cache) / "audits" / f"{dataset.path.name}-{fingerprint(key['settings'])}"
        write_audit(error.report, kept)
        raise LeakError(error.report, kept) from None
    _refuse_empty_tasks(exp, made)
    _warn(made)
    return made


def examples_key(exp: ExperimentConfig, dataset_hash: str) -> dict[str, Any]:
    """What the examples are made from."""
    more = [entry for entry in exp.task_mix if entry.name not in exp.dataset.supported_tasks]
    tasks = [*exp.dataset.supported_tasks, *(entry.name for entry in more)]
    settings = {key: value for key, value in to_jsonable(exp.tasks).items() if key != "mixture"} | {"tasks": tasks}
    if own := {entry.name: entry.target for entry in more if entry.target is not None}:
        settings["own_tasks"] = own
    return {"stage": "examples", "name": exp.dataset.name, "settings": settings, "inputs": [dataset_hash]}


def _refuse_empty_tasks(exp: ExperimentConfig, examples: Artifact) -> None:
    """Stop where every example of a task that is asked for was left out."""
    manifest = read_json(examples.path / "manifest.json")
    for task in (entry.name for entry in exp.task_mix):
        found = manifest.get("left_out", {}).get(task)
        if found and sum(found["examples"].values()) == found["of"]:
            raise DataError(f"{found['text']}; set fewer tasks.candidates, or other tasks (tasks=ctr)")


def train_cf(exp: ExperimentConfig, dataset: Artifact, examples: Artifact, on_epoch: OnEpoch | None = None) -> Artifact:
    """The CF model of the config: vectors (where it has some) and predictions.

    ``on_epoch`` is called with each epoch's metrics as it ends; not at all where the artifact exists.
    """
    from ckf.cf.fit import build_cf

    return store(exp).get(
        **cf_key(exp, dataset.hash, examples.hash),
        build=lambda out: build_cf(
            exp.cf,
            dataset.path,
            examples.path,
            exp.seed,
            out,
            on_epoch,
            out_of_fold=_out_of_fold(exp),
            tasks=exp.task_set,
        ),
    )


def cf_artifact_dir(exp: ExperimentConfig, dataset: Artifact, examples: Artifact) -> Path:
    """The folder that `train_cf` writes the CF model to."""
    return store(exp).path_of(**cf_key(exp, dataset.hash, examples.hash))


def cf_key(exp: ExperimentConfig, dataset_hash: str, examples_hash: str) -> dict[str, Any]:
    """What the CF model is made from."""
    named = content_key(exp)
    folds = _out_of_fold(exp)
    settings = {
        **to_jsonable(named.cf),
        "seed": 0 if isinstance(exp.cf, (BiasConfig, PopularityConfig)) else named.seed,  # these draw nothing
        "out_of_fold": folds,  # as it is used, so that a model without a fusion is not fitted again
    }
    return {"stage": "cf", "name": exp.cf.name, "settings": settings, "inputs": [dataset_hash, examples_hash]}


def _out_of_fold(exp: ExperimentConfig) -> int:
    """Folds of the CF vectors, where a fusion reads them and they are fitted here."""
    fitted = exp.fusion.reads_vectors and isinstance(exp.cf, EmbeddingConfig)
    return exp.cf.out_of_fold if fitted else 0


def content_key(exp: ExperimentConfig) -> ExperimentConfig:
    """The experiment with given files (backbone, ``cf=pretrained``, ``lora.init``) named by content, not by path.

    Given CF vectors do not depend on the seed, so theirs is 0.
    """
    if isinstance(exp.backbone, HFBackboneConfig) and Path(exp.backbone.path).is_dir():
        from ckf.model.provenance import backbone_content

        path = backbone_content(exp.backbone.path) or exp.backbone.path
        exp = dataclasses.replace(exp, backbone=dataclasses.replace(exp.backbone, path=path))
    if exp.lora.init:
        from ckf.model.peft_io import with_content_hashes as adapters_by_content

        exp = dataclasses.replace(exp, lora=adapters_by_content(exp.lora))
    if not isinstance(exp.cf, PretrainedConfig):
        return exp
    from ckf.cf.vectors.external import with_content_hashes

    return dataclasses.replace(exp, cf=with_content_hashes(exp.cf), seed=0)


def fit_bias_baseline(exp: ExperimentConfig, dataset: Artifact, examples: Artifact) -> Artifact:
    """Fit the bias baseline (``cf=bias``); every table has a row for it."""
    return train_cf(with_bias(exp), dataset, examples)


def with_bias(exp: ExperimentConfig) -> ExperimentConfig:
    """The experiment whose CF model is the bias baseline."""
    return dataclasses.replace(exp, cf=exp.cf if isinstance(exp.cf, BiasConfig) else BiasConfig(name="bias"), seed=0)


def check_requirements(exp: ExperimentConfig) -> None:
    """Check that the GPUs and the pretrained backbone of a training are there, before any data is read."""
    if exp.backbone.name != "none":
        from ckf.train.trainer import check_devices

        check_devices(exp.trainer)
    if isinstance(exp.backbone, HFBackboneConfig):
        from ckf.model.backbone import find_checkpoint

        find_checkpoint(exp.backbone.path, exp.backbone.revision)


def get_backbone(exp: ExperimentConfig, dataset: Artifact) -> tuple[str, str]:
    """Path (or hub name) of the backbone and what identifies it; the tiny one is trained here once."""
    match exp.backbone:
        case HFBackboneConfig(path=path, revision=revision):
            return path, f"{path}@{revision}"
        case TinyBackboneConfig():
            from ckf.model.tiny_backbone import build_tiny

            cfg = exp.backbone
            artifact = store(exp).get(
                **backbone_key(exp, dataset.hash),
                build=lambda out: build_tiny(cfg, exp.pretrain, exp.prompts, dataset.path, exp.pretrain.seed, out),
            )
            return str(artifact.path), artifact.hash
    return "", "none"


def backbone_key(exp: ExperimentConfig, dataset_hash: str) -> dict[str, Any]:
    """What the tiny backbone is made from."""
    settings = {**to_jsonable(exp.backbone), "pretrain": exp.pretrain, "prompts": _tiny_wording(exp)}
    settings.pop("dtype")
    return {"stage": "backbone", "name": "tiny", "settings": settings, "inputs": [dataset_hash]}


def _tiny_wording(exp: ExperimentConfig) -> dict[str, str]:
    """The wording that shapes the tiny backbone's vocabulary: the text prompts, not the slots."""
    listed = [task for task in BUILT_IN.values() if task.listed_by_datasets and task.worded_as is None]
    return {task.name: exp.prompts.of(task).text for task in listed}


def get_tokenizer(exp: ExperimentConfig, dataset: Artifact) -> str:
    """Folder or name of the backbone's tokenizer; the tiny one's is trained without its model, which takes seconds."""
    if not isinstance(exp.backbone, TinyBackboneConfig):
        return get_backbone(exp, dataset)[0]
    cfg = exp.backbone

    def build(out: Path) -> None:
        from ckf.model.tiny_backbone import corpus, tiny_tokenizer

        tiny_tokenizer(cfg, exp.prompts, corpus(dataset.path, exp.pretrain.seed)).save_pretrained(str(out))

    settings = {"vocabulary": cfg.vocabulary, "seed": exp.pretrain.seed, "prompts": _tiny_wording(exp)}
    return str(store(exp).get("tokenizer", "tiny", settings, [dataset.hash], build).path)
