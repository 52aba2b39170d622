"""Export a trained run for programs that know neither roles nor slots: one plain PEFT adapter, or merged weights.

A row of task ``t`` gets ``W x + s_shared B_shared A_shared x + s_t B_t A_t x``. This is exactly one LoRA: its
``A`` is the two stacked along the rank, and its ``B`` contains the scales. Projections with fewer ranks than
others are padded with zeros, because servers of single adapters need one rank for all.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ckf.config.schema import ExperimentConfig, HFBackboneConfig
from ckf.core.artifact_store import new_folder, write_json
from ckf.core.errors import ArtifactError, ConfigError, Problem
from ckf.core.rng import generator_for
from ckf.model.backbone import load_backbone, load_tokenizer
from ckf.model.checkpoint_io import FUSION_METADATA, FUSION_WEIGHTS
from ckf.model.lora import SHARED, AdapterRouting, AdapterSpec, MultiLoraLinear, inject_lora
from ckf.model.peft_io import AdapterFile, read_adapter, write_adapter
from ckf.model.provenance import check_identity
from ckf.runs.artifact_places import backbone_path
from ckf.runs.folder import read_run

FORMATS = ("peft", "merged")
EXPORT_METADATA = "ckf_export.json"
TOLERANCE = {"float32": 0.01, "bfloat16": 0.25}
"""Fraction of the adapters' effect that rounding may change, by the dtype of the weights."""


def export_run(
    run: Path, task: str, format: str, out: Path, tolerance: float | None = None, cache: Path | None = None
) -> Path:
    """Write a trained run's model for one task to the new folder ``out``; nothing is left there on failure.

    ``peft``: the shared and the task's adapter as one. ``merged``: a ``transformers`` folder with both merged into
    the weights and with the run's tokenizer, checked on fixed rows against the unmerged adapters.
    ``ckf_export.json`` describes the export. The fusion of a run is copied too: its slots are input embeddings
    that such programs must be given.

    Raises:
        ConfigError: an unknown format or task.
        ArtifactError: not a trained run with adapters, ``out`` is not empty, or the merged weights
            lose more than ``tolerance``: the mean change of a log-probability by merging, over its mean
            change by the adapters.
    """
    exp, metadata = read_run(run, cache)
    parts = _parts(run, exp, task, format)
    if out.exists() and any(out.iterdir()):
        raise ArtifactError(f"{out}: is not empty; export into a new folder")
    backbone = backbone_path(metadata, run)
    note: dict[str, Any] = {"run": run.name, "task": task, "format": format, "backbone": backbone}
    note |= {"roles": [part.folder.name for part in parts], "slots": (run / FUSION_METADATA).is_file()}
    with new_folder(out) as temporary:
        if format == "peft":
            write_concatenated(parts, temporary)
        else:
            check_identity(run, metadata, backbone, getattr(exp.backbone, "revision", None))
            note["parity"] = _write_merged(run, exp, backbone, parts, temporary, tolerance)
        for name in (FUSION_METADATA, FUSION_WEIGHTS):
            if (run / name).is_file():
                shutil.copyfile(run / name, temporary / name)
        write_json(temporary / EXPORT_METADATA, note)
    return out


def _parts(run: Path, exp: ExperimentConfig, task: str, format: str) -> list[AdapterFile]:
    tasks = [entry.name for entry in exp.task_mix]
    problems = []
    if format not in FORMATS:
        problems.append(Problem("format", f"'{format}' is not allowed; one of {', '.join(FORMATS)}"))
    if task not in tasks:
        problems.append(Problem("task", f"'{task}' is not a task of {run} ({', '.join(tasks)})"))
    if problems:
        raise ConfigError(problems)
    if not exp.lora.trains:
        raise ArtifactError(f"{run}: lora={exp.lora.name}, so there is no adapter to export")
    if not (run / "adapters").is_dir():
        raise ArtifactError(f"{run}: has no adapters yet; the same `ckf` command finishes its training")
    roles = [SHARED] * (exp.lora.shared is not None) + [task] * (exp.lora.per_task is not None)
    return [read_adapter(run / "adapters" / role) for role in roles]


# --- one adapter


def write_concatenated(parts: Sequence[AdapterFile], folder: Path) -> None:
    """Write the sum of several adapters as one plain PEFT adapter."""
    weights, rank, alpha = concat_adapters(parts)
    write_adapter(
        folder,
        weights,
        rank=rank,
        alpha=alpha,
        dropout=0.0,
        rslora=False,
        targets=sorted({target for part in parts for target in part.targets}),
        backbone=parts[0].backbone,
    )


def concat_adapters(parts: Sequence[AdapterFile]) -> tuple[dict[str, tuple[Tensor, Tensor]], int, float]:
    """Concatenate adapters: ``A`` and ``B`` by module, and one rank and alpha for all modules.

    Where all scales and ranks agree (the roles' targets do not overlap) the tensors are not changed; otherwise the
    scales are multiplied into ``B``, and alpha equals the rank.
    """
    modules: dict[str, list[tuple[Tensor, Tensor, float]]] = {}
    for part in parts:
        for name, one in part.weights.items():
            modules.setdefault(name, []).append(one)
    ranks = {sum(a.shape[0] for a, _, _ in ones) for ones in modules.values()}
    scales = {scale for ones in modules.values() for _, _, scale in ones}
    rank = max(ranks)
    if len(ranks) == len(scales) == 1:
        stacked = {n: (torch.cat([a for a, _, _ in o]), torch.cat([b for _, b, _ in o], 1)) for n, o in modules.items()}
        return stacked, rank, scales.pop() * rank
    padded = {}
    for name, ones in modules.items():
        a = torch.cat([one_a for one_a, _, _ in ones])
        b = torch.cat([one_b * scale for _, one_b, scale in ones], dim=1)
        missing = rank - a.shape[0]
        padded[name] = (
            torch.cat([a, a.new_zeros(missing, a.shape[1])]),
            torch.cat([b, b.new_zeros(b.shape[0], missing)], dim=1),
        )
    return padded, rank, float(rank)


# --- plain weights


@torch.no_grad()
def _write_merged(
    run: Path, exp: ExperimentConfig, backbone: str, parts: list[AdapterFile], folder: Path, tolerance: float | None
) -> dict[str, float]:
    options: dict[str, Any] = {}
    if isinstance(exp.backbone, HFBackboneConfig):
        options = {
            "revision": exp.backbone.revision,
            "trust_remote_code": exp.backbone.trust_remote_code,
            "attention": exp.backbone.attention,
        }
    model = load_backbone(backbone, dtype=exp.backbone.dtype, **options)
    tokenizer = load_tokenizer(run / "tokenizer")
    rows = fixed_rows(min(len(tokenizer), model.get_input_embeddings().weight.shape[0]))
    plain = _log_probabilities(model, rows)
    layers = _with_adapters(model, parts)
    before = _log_probabilities(model, rows)
    for name, layer in layers.items():
        merge_into(layer.base, [part.weights[name] for part in parts if name in part.weights])
        model.set_submodule(name, layer.base)
    after = _log_probabilities(model, rows)
    change, effect = float((after - before).abs().mean()), float((before - plain).abs().mean())
    lost = change / effect if change else 0.0
    allowed = TOLERANCE[exp.backbone.dtype] if tolerance is None else tolerance
    if not lost <= allowed:
        raise ArtifactError(
            f"{run}: merging changes the log-probabilities of the fixed rows by {lost:.3g} of what the adapters do, "
            f"more than the tolerance of {allowed:g}; export format=peft instead"
        )
    model.config.use_cache = True  # it is off in training
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    agree = float((after.argmax(-1) == before.argmax(-1)).float().mean())
    return {
        "lost_share": lost,
        "tolerance": allowed,
        "largest_change_of_log_probability": float((after - before).abs().max()),
        "same_first_choice": agree,
    }


def _log_probabilities(model: Any, rows: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=rows).logits
    return logits.float().log_softmax(-1)


def fixed_rows(vocabulary: int) -> Tensor:
    """Token ids [8, 32] of the parity check: the same for every run with this vocabulary."""
    return torch.from_numpy(generator_for(0, "merge parity rows").integers(0, vocabulary, (8, 32)))


def _with_adapters(model: Any, parts: Sequence[AdapterFile]) -> dict[str, MultiLoraLinear]:
    """Put adapters from disk on a backbone, all of them active for every row."""
    specs = []
    for part in parts:
        a, _, scale = next(iter(part.weights.values()))
        rank = a.shape[0]
        specs.append(AdapterSpec(part.folder.name, rank, scale * rank, 0.0, tuple(part.weights)))
    routing = AdapterRouting()
    routing.route(torch.zeros(1, dtype=torch.long))
    layers = inject_lora(model, specs, [spec.name for spec in specs], routing)
    for name, layer in layers.items():
        layer.lora_task.fill_(-1)
        for spec, part in zip(specs, parts, strict=True):
            if name in part.weights:
                to_a, to_b = layer.weights_of(spec.name)
                to_a.copy_(part.weights[name][0])
                to_b.copy_(part.weights[name][1])
    return layers


@torch.no_grad()
def merge_into(base: Any, adapters: Sequence[tuple[Tensor, Tensor, float]]) -> None:
    """Add ``sum of s B A`` to a linear layer's weight, summed in fp32 and rounded once."""
    delta = sum(scale * (b.float() @ a.float()) for a, b, scale in adapters)
    base.weight.copy_((base.weight.float() + delta).to(base.weight.dtype))
