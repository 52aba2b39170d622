"""What all contenders of the training benchmark share: data, weights, batches, and the optimizer's settings."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ckf.assembly import Inputs, build_collators, task_names
from ckf.cf.vectors.tables import VectorTables
from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig
from ckf.data.example_table import ExampleTable
from ckf.model.build import adapter_specs, build_fusion
from ckf.model.fusion import Fusion
from ckf.model.lora import AdapterRouting, AdapterSpec, inject_lora
from ckf.model.recommender import Recommender
from ckf.model.tiny_backbone import corpus, tiny_tokenizer
from ckf.pipeline import artifacts as stages
from ckf.prompts.batch import PromptBatch
from ckf.prompts.collate import Collators
from ckf.prompts.encoded_example import EncodedExample
from ckf.train.batching.batch_plan import BatchPlan
from ckf.train.batching.batches import StepBatch, StepDataset
from ckf.train.batching.prefix_sharing import choose_stream_mode, token_bytes
from ckf.train.curriculum import build_curriculum

STEPS = 1000
"""Length of the run that steps are taken from: the middle of its curriculum, where both streams weigh the same."""


@dataclass(frozen=True)
class Shape:
    """A Llama's shape."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int


SHAPES = {
    "tiny": Shape(64, 192, 2, 2, 3000),  # the built-in backbone's
    "small": Shape(256, 688, 6, 4, 8192),
    "medium": Shape(512, 1376, 8, 8, 8192),
}


@dataclass(frozen=True)
class Step:
    """One global batch: as ckf collates it, and as a list of (task, rows) for the others."""

    ours: StepBatch
    by_task: list[tuple[str, list[EncodedExample]]]
    weights: tuple[float, float]  # of the text and of the slot stream


class World:
    """Built-in data, a random Llama of a shape with random adapters (B too), a fusion of random CF vectors."""

    def __init__(self, shape: Shape, cache: Path, overrides: list[str]) -> None:
        self.exp: ExperimentConfig = compose(["logger=csv", f"paths.cache={cache}", *overrides])[0]
        dataset = stages.prepare_dataset(self.exp)
        examples = stages.prepare_examples(self.exp, dataset)
        tokenizer = tiny_tokenizer(self.exp.backbone, self.exp.prompts, corpus(dataset.path, 0))
        self.tasks = task_names(self.exp)
        self.table = ExampleTable(examples.path / "examples.parquet", "train", self.tasks)
        bare = build_collators(self.exp, Inputs(dataset.path, examples.path, "", None), tokenizer)
        draw = torch.Generator().manual_seed(0)
        counts = int(self.table.user.max()) + 1, len(bare.encoder.titles)
        self.tables = VectorTables(*(torch.randn(count, 64, generator=draw) for count in counts))
        self.collator: Collators = bare.with_tables(self.tables)
        self.specs: list[AdapterSpec] = adapter_specs(self.exp.lora, self.tasks)
        torch.manual_seed(0)
        self._base = LlamaForCausalLM(LlamaConfig(**vars(shape), tie_word_embeddings=True, initializer_range=0.05))
        self._base.requires_grad_(False)
        self._first = self._recommender()
        for layer in self._first.layers.values():
            torch.nn.init.normal_(layer.lora_b, std=0.02)

    def base(self) -> Any:
        """A backbone of one's own, the same for everyone."""
        return copy.deepcopy(self._base)

    def fusion(self) -> Fusion:
        """A fusion of one's own, the same for everyone."""
        torch.manual_seed(1)
        fusion = build_fusion(self.exp.fusion, self.tables.dim, self._base.config.hidden_size, 1.0)
        assert fusion is not None
        fusion.fit_normalization(self.tables)
        return fusion

    def _recommender(self) -> Recommender:
        base, routing = self.base(), AdapterRouting()
        torch.manual_seed(2)
        layers = inject_lora(base, self.specs, self.tasks, routing)
        return Recommender(base, layers, self.specs, routing, self.fusion())

    def recommender(self) -> Recommender:
        """ckf's model."""
        model = self._recommender()
        model.load_state_dict(self._first.state_dict())
        return model

    def adapter_weights(self) -> dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
        """By adapter and module: its A and B."""
        found: dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {spec.name: {} for spec in self.specs}
        for name, layer in self._first.layers.items():
            for spec in layer.adapters:
                found[spec.name][name] = tuple(x.detach().clone() for x in layer.weights_of(spec.name))
        return found

    def steps(self, count: int) -> list[Step]:
        """Global batches from the middle of a run, in ckf's buckets and by task."""
        train = self.exp.train
        plan = BatchPlan(self.table.task_index, self.tasks, [1.0] * len(self.tasks), train.global_batch_size, 0)
        self.curriculum = build_curriculum(self.exp.curriculum, STEPS)
        size = token_bytes(self._base.config, torch.float32)
        mode = choose_stream_mode(
            self.curriculum, self.table, self.collator, rows=train.global_batch_size, token_bytes=size
        )
        data = StepDataset(
            self.table, self.collator, plan, steps=STEPS, curriculum=self.curriculum,
            task_weights=[1.0] * len(self.tasks), length_buckets=train.length_buckets, accumulation_steps=1, rank=0,
            world_size=1, share_prefix=mode.share_prefix, own_buckets=mode.own_buckets,
        )  # fmt: skip
        return [self._step(data, plan, STEPS // 2 + k) for k in range(count)]

    def _step(self, data: StepDataset, plan: BatchPlan, number: int) -> Step:
        places = plan.batch(number)
        by_task = []
        for task, name in enumerate(self.tasks):
            examples = [self.table[int(i)] for i in places[self.table.task_index[places] == task]]
            tokens = sum(len(row.answer) for row in self.collator.training.encode(examples, [1.0] * len(examples), ()))
            weight = 1.0 / len(self.tasks) / tokens
            by_task.append((name, self.collator.training.encode(examples, [weight] * len(examples), (False, True))))
        text, fused = self.curriculum.streams(number)
        return Step(data[number], by_task, (text.weight, fused.weight))

    def batch(self, rows: list[EncodedExample], *, slots: bool) -> PromptBatch:
        """Rows as one padded batch."""
        return self.collator.training.batch(rows, slots=slots)


class Optimizer:
    """AdamW and clipping, as every contender does them."""

    def __init__(self, adapters: list[torch.nn.Parameter], fusion: list[torch.nn.Parameter]) -> None:
        self.parameters = [*adapters, *fusion]
        groups = [{"params": adapters, "lr": 1e-4}, {"params": fusion, "lr": 1e-4}]
        self._adam = torch.optim.AdamW(groups, weight_decay=1e-3, eps=1e-6)

    def step(self) -> None:
        """Clip, step, clear."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)


def padding(step: Step) -> tuple[float, float]:
    """Share of padding in ckf's passes, and in those of batches by task."""
    real = computed = 0
    for _, rows in step.by_task:
        for slots in (False, True):
            lengths = np.asarray([row.length(slots) for row in rows])
            real, computed = real + int(lengths.sum()), computed + int(len(lengths) * lengths.max())
    return step.ours.padding, 1.0 - real / computed
