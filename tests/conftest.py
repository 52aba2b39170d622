"""Small worlds that the tests make for themselves: titles, examples, a random Llama with its tokenizer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ckf.cf.vectors.tables import VectorTables
from ckf.config.registry import SCHEMAS
from ckf.config.schema import LoraConfig, LoraRoleConfig, PromptConfig, PromptsConfig, TinyBackboneConfig
from ckf.data.example_table import Example
from ckf.model.backbone import load_backbone, load_tokenizer
from ckf.model.build import adapter_specs, build_fusion
from ckf.model.fusion import Fusion
from ckf.model.lora import AdapterRouting, inject_lora
from ckf.model.recommender import Recommender
from ckf.model.tiny_backbone import new_model, train_tokenizer
from ckf.prompts.collate import Collators
from ckf.prompts.encode import PromptEncoder

TASKS = ["ctr", "rating", "topk", "explain"]
CF_DIM = 6
TITLES = [
    "",
    *(f"{a} {b} {n}" for n in ("Velmo", "Tarn", "Oskar") for a in ("Red", "Cold") for b in ("Harbor", "Moon")),
]


@pytest.fixture(scope="session")
def prompts() -> PromptsConfig:
    return PromptsConfig(
        ctr=PromptConfig(
            "Liked: {history}. Next: {candidate}. Answer:",
            "Liked: {history}. Next: {candidate} <user><item>. Answer:",
            " {label}",
        ),
        rating=PromptConfig(
            "Rated: {history}. Next: {candidate}. Rating:",
            "Rated: {history}. Next: {candidate} <user><item>. Rating:",
            " {label}",
        ),
        topk=PromptConfig(
            "Liked: {history}. Choose: {candidates}. Answer:",
            "Liked: {history}. Choose: {candidates} <item>. For <user>. Answer:",
            " {label}",
        ),
        explain=PromptConfig("Review: {review}. Rating:", "Review: {review} <user><item>. Rating:", " {label}"),
    )


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory, prompts: PromptsConfig) -> Path:
    """A random Llama and its tokenizer, saved as ``transformers`` saves them."""
    folder = tmp_path_factory.mktemp("backbone")
    words = [
        *TITLES,
        prompts.ctr.slots,
        prompts.topk.slots,
        prompts.rating.slots,
        "Review good bad Yes No 1 2 3 4 5",
    ] * 5
    tokenizer = train_tokenizer(words, 400)
    model = new_model(
        TinyBackboneConfig(name="tiny", hidden_size=32, layers=2, heads=2, intermediate_size=48), tokenizer, 0
    )
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def tables() -> VectorTables:
    draw = torch.Generator().manual_seed(1)
    users, items = (torch.randn(n, CF_DIM, generator=draw) for n in (9, len(TITLES)))
    users[0] = items[0] = 0.0
    return VectorTables(users, items)


@pytest.fixture(scope="session")
def encoder(backbone_folder: Path, prompts: PromptsConfig) -> PromptEncoder:
    return PromptEncoder(load_tokenizer(backbone_folder), prompts, TITLES, ["1", "2", "3", "4", "5"])


@pytest.fixture(scope="session")
def collator(encoder: PromptEncoder, tables: VectorTables) -> Collators:
    return Collators(encoder, TASKS, tables)


def make_example(task: str, number: int = 0) -> Example:
    draw = np.random.default_rng(number)
    history = draw.permutation(np.arange(1, 6))[: 1 + number % 4]
    item = int(draw.integers(6, len(TITLES)))
    others = [i for i in range(6, len(TITLES)) if i != item][:3]
    candidates = np.asarray([*others, item]) if task == "topk" else np.empty(0, dtype=np.int64)
    return Example(
        example_id=f"{task}/train/{1 + number % 8}-{item}",
        task=task,
        user=1 + number % 8,
        item=item,
        label=float(number % 2) if task == "ctr" else float(1 + number % 5),
        candidates=candidates,
        position=3 if task == "topk" else -1,
        history=history,
        history_ratings=np.full(len(history), 4.0, dtype=np.float32),
        review="good moon harbor" if task == "explain" else None,
    )


@pytest.fixture(scope="session")
def mixed() -> list[Example]:
    """Two examples of every task."""
    return [make_example(task, number) for number in (0, 1) for task in TASKS]


LORA = LoraConfig(
    name="multi",
    rank=4,
    alpha=8.0,
    dropout=0.0,
    shared=LoraRoleConfig(target_modules=["k_proj", "v_proj", "o_proj"]),
    per_task=LoraRoleConfig(target_modules=["q_proj"]),
)


FUSIONS = ("linear", "mlp", "meta", "meta_attention", "random", "soft_prompt")
"""Fusions with slots, by the names of their options."""


def make_fusion(kind: str, width: int, **options: Any) -> Fusion | None:
    """The fusion of an option, as `build_fusion` makes it; ``slots``, ``tasks`` and fields of its config may be set."""
    cls = SCHEMAS["fusion"][kind]
    fields = {field.name for field in dataclasses.fields(cls)}
    cfg = cls(name=kind, **{key: value for key, value in options.items() if key in fields})
    rest = {key: value for key, value in options.items() if key not in fields}
    return build_fusion(cfg, CF_DIM, width, 1.0, **{"tasks": len(TASKS), **rest})


def make_model(
    folder: Path,
    tables: VectorTables,
    fusion: str = "meta",
    lora: LoraConfig = LORA,
    fusion_options: dict[str, Any] | None = None,
) -> Recommender:
    """A recommender with random adapters (B too: at its zero start A has no gradient by construction)."""
    backbone = load_backbone(folder)
    routing = AdapterRouting()
    adapters = adapter_specs(lora, TASKS)
    torch.manual_seed(3)
    layers = inject_lora(backbone, adapters, TASKS, routing)
    for layer in layers.values():
        torch.nn.init.normal_(layer.lora_b, std=0.1)
    built = make_fusion(fusion, backbone.config.hidden_size, **(fusion_options or {}))
    if built is not None:
        built.fit_normalization(tables)
    return Recommender(backbone, layers, adapters, routing, built)


@pytest.fixture
def model(backbone_folder: Path, tables: VectorTables) -> Recommender:
    return make_model(backbone_folder, tables)
