"""Adapters on disk in PEFT's format, one folder for each role: stock PEFT loads them, and its adapters load here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ckf.config.schema import LoraConfig
from ckf.core.artifact_store import file_hash, fingerprint, read_json, write_json
from ckf.core.errors import ArtifactError, first_line
from ckf.model.lora import AdapterSpec, MultiLoraLinear

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
BACKBONE = "backbone.json"
"""Content of the weights that an adapter was trained on; only adapters of ckf have it."""
_PREFIX = "base_model.model."
_FREE = frozenset((
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_type",
    "peft_version", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type", "use_rslora",
))  # fmt: skip
"""PEFT settings that may hold anything: they are read here, or do not change what a saved adapter computes."""
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Values of ``init_lora_weights`` that leave the backbone's weights alone; PiSSA, OLoRA and others change them."""


@dataclass(frozen=True)
class AdapterFile:
    """An adapter from disk; ``weights`` has by module ``A`` [r, in], ``B`` [out, r] and the factor on ``B A x``."""

    folder: Path
    backbone: str | None
    targets: tuple[str, ...]
    weights: dict[str, tuple[Tensor, Tensor, float]]


def save_adapters(
    folder: Path, layers: Mapping[str, MultiLoraLinear], adapters: Sequence[AdapterSpec], backbone: str,
    weights: str | None = None,
) -> None:  # fmt: skip
    """Write ``folder/<role>/`` for each adapter: ``adapter_config.json`` and ``adapter_model.safetensors``.

    ``weights`` is the content of the backbone (`ckf.model.provenance.weights_content`); it goes to ``backbone.json``.
    """
    for adapter in adapters:
        mine = {name: layer.weights_of(adapter.name) for name, layer in layers.items() if adapter in layer.adapters}
        write_adapter(
            folder / adapter.name,
            mine,
            rank=adapter.rank,
            alpha=adapter.alpha,
            dropout=adapter.dropout,
            rslora=adapter.rslora,
            targets=adapter.target_modules,
            backbone=backbone,
        )
        if weights:
            write_json(folder / adapter.name / BACKBONE, {"weights": weights})


def write_adapter(
    folder: Path,
    weights: Mapping[str, tuple[Tensor, Tensor]],
    *,
    rank: int,
    alpha: float,
    dropout: float,
    rslora: bool,
    targets: Sequence[str],
    backbone: str | None,
) -> None:
    """Write one adapter as PEFT does; ``weights`` maps module names to ``A`` [r, in] and ``B`` [out, r]."""
    from peft import LoraConfig as PeftLoraConfig

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        f"{_PREFIX}{name}.lora_{kind}.weight": value.detach().cpu().contiguous()
        for name, pair in weights.items()
        for kind, value in zip("AB", pair, strict=True)
    }
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    PeftLoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_rslora=rslora,
        target_modules=list(targets),
        base_model_name_or_path=backbone,
        task_type="CAUSAL_LM",
        inference_mode=True,
    ).save_pretrained(str(folder))


def read_adapter(folder: Path) -> AdapterFile:
    """Read a LoRA that PEFT (or `save_adapters`) wrote.

    Raises:
        ArtifactError: a file is missing or broken, or the adapter is not a plain LoRA of linear layers.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; an adapter is a folder with {CONFIG} and {WEIGHTS}")
    config = read_json(folder / CONFIG)
    _check_plain(folder, config)
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises its own class, by no public name
        raise ArtifactError(f"{path}: not a safetensors file ({first_line(error)})") from None
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        module, _, kind = key.removeprefix(_PREFIX).rpartition(".lora_")
        if not module or kind not in ("A.weight", "B.weight"):
            raise ArtifactError(f"{path}: {key} is not a tensor of a plain LoRA")
        pairs.setdefault(module, {})[kind[0]] = value
    weights = {}
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise ArtifactError(f"{path}: lora_A and lora_B of {module} do not belong together")
        weights[module] = (pair["A"], pair["B"], _scale(config, module, pair["A"].shape[0]))
    targets = config.get("target_modules")
    return AdapterFile(
        folder=folder,
        backbone=config.get("base_model_name_or_path"),
        targets=tuple(sorted(targets if isinstance(targets, list) else weights)),  # PEFT takes a string as a pattern
        weights=weights,
    )


def with_content_hashes(cfg: LoraConfig) -> LoraConfig:
    """The adapters of a config with a hash of the files in place of each path of ``lora.init``.

    Raises:
        ArtifactError: one of them is not there.
    """
    entries = []
    for index, entry in enumerate(cfg.init):
        files = [Path(entry.path) / name for name in (CONFIG, WEIGHTS)]
        if missing := [path for path in files if not path.is_file()]:
            raise ArtifactError(
                f"lora.init[{index}]: {missing[0]}: no such file; an adapter is a folder with {CONFIG} and {WEIGHTS}"
            )
        digest = fingerprint(*(file_hash(path) for path in files))
        entries.append(dataclasses.replace(entry, path=f"sha256:{digest}"))
    return dataclasses.replace(cfg, init=entries)


def _check_plain(folder: Path, config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise ArtifactError(f"{folder / CONFIG}: peft_type is {config.get('peft_type')}; only LORA can be used")
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        raise ArtifactError(
            f"{folder / CONFIG}: init_lora_weights is {config['init_lora_weights']}, which changes the backbone's own "
            "weights; save it with PEFT's path_initial_model_for_weight_conversion, which makes a plain LoRA of it"
        )
    plain = _plain_settings()
    for key in sorted(config.keys() - _FREE - {"init_lora_weights"}):
        if config[key] and config[key] != plain.get(key):  # what is empty or PEFT's default changes nothing
            raise ArtifactError(f"{folder / CONFIG}: {key} is {config[key]}; only a plain LoRA can be used")


def _plain_settings() -> dict[str, Any]:
    """PEFT's own defaults."""
    from peft import LoraConfig as PeftLoraConfig

    return PeftLoraConfig().to_dict()


def _scale(config: dict[str, Any], module: str, rank: int) -> float:
    """PEFT's factor for one module; ``alpha_pattern`` may set alpha by the end of the module's name."""
    patterns = config.get("alpha_pattern") or {}
    alpha = next((a for end, a in patterns.items() if f".{module}".endswith(f".{end}")), config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


@torch.no_grad()
def load_adapters(folder: Path, layers: Mapping[str, MultiLoraLinear], adapters: Sequence[AdapterSpec]) -> None:
    """Load every adapter of a run into the stacks.

    Raises:
        ArtifactError: a missing file, a missing tensor or one of another shape.
    """
    for adapter in adapters:
        if not (path := folder / adapter.name / WEIGHTS).is_file():
            raise ArtifactError(f"{path}: no such file; the run has no adapter '{adapter.name}'")
        load_adapter(folder / adapter.name, layers, adapter)


@torch.no_grad()
def load_adapter(
    folder: Path, layers: Mapping[str, MultiLoraLinear], adapter: AdapterSpec, weights: str | None = None
) -> None:
    """Load one adapter from disk into the stacks.

    ``weights`` is the content of the backbone that the adapter must have been trained on. An adapter that does not
    record it (a plain PEFT folder) is loaded; `records_backbone` finds it.

    Raises:
        ArtifactError: it is missing, for another backbone, or its targets, rank or scale differ from the role's.
    """
    found = read_adapter(folder)
    recorded = read_json(folder / BACKBONE)["weights"] if records_backbone(folder) else None
    if weights is not None and recorded is not None and recorded != weights:
        raise ArtifactError(
            f"{folder}: trained on other weights ({recorded[:19]} of '{found.backbone}') than this backbone's "
            f"({weights[:19]}); set same_backbone: false to start from it all the same"
        )
    mine = {name: layer for name, layer in layers.items() if adapter in layer.adapters}
    if set(found.weights) != set(mine):
        raise ArtifactError(f"{folder}: {_difference(set(found.weights), set(mine), adapter)}")
    for name, layer in mine.items():
        if problem := _misfit(*found.weights[name], layer, name, adapter):
            raise ArtifactError(f"{folder}: {problem}")
    for name, layer in mine.items():
        for own, saved in zip(layer.weights_of(adapter.name), found.weights[name][:2], strict=True):
            own.copy_(saved)


def records_backbone(folder: Path) -> bool:
    """Whether an adapter on disk records the content of the weights that it was trained on."""
    return (folder / BACKBONE).is_file()


def _misfit(a: Tensor, b: Tensor, scale: float, layer: MultiLoraLinear, name: str, adapter: AdapterSpec) -> str | None:
    """The reason why one module's saved tensors do not fit its layer; None where they fit."""
    to_a, to_b = layer.weights_of(adapter.name)
    if a.shape[0] != adapter.rank:
        return f"its rank is {a.shape[0]}, that of '{adapter.name}' is {adapter.rank}"
    if not math.isclose(scale, adapter.scale, rel_tol=1e-6):
        alpha = scale * (math.sqrt(adapter.rank) if adapter.rslora else adapter.rank)
        return f"it is scaled by {scale:g}, '{adapter.name}' by {adapter.scale:g}; set alpha {alpha:g} for that role"
    if a.shape != to_a.shape or b.shape != to_b.shape:
        expected = f"{to_a.shape[1]} to {to_b.shape[0]}"
        return f"{name} maps {a.shape[1]} to {b.shape[0]} features, here it is {expected}: another backbone?"
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        return f"the weights of {name} hold NaN or infinity"
    return None


def _difference(found: set[str], wanted: set[str], adapter: AdapterSpec) -> str:
    ends = sorted({name.rpartition(".")[2] for name in found})
    wanted_ends = sorted({name.rpartition(".")[2] for name in wanted})
    if ends != wanted_ends:
        return f"its targets are {', '.join(ends)}, those of '{adapter.name}' are {', '.join(wanted_ends)}"
    odd = sorted(found ^ wanted)[0]
    if odd in wanted:
        return f"it has nothing for {odd}: another backbone?"
    return f"it is for {odd}, which is not in this backbone: another backbone?"
