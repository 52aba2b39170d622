"""Three ways to take one training step: ckf's, a good user's of stock PEFT, and the released code's.

All leave the same gradients of the same loss in their own copies of the same weights. The third is written
from the description of what the released code does (passes, loops, logits), not from the code, and with its
faults mended, so that it learns the same.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from world import Optimizer, Step, World

from ckf.config.schema import TrainConfig
from ckf.prompts.batch import PromptBatch
from ckf.train.module import FineTuning


class Ours:
    """ckf: mixed tasks in length buckets, one prefix with two branches, the last layer where answers are."""

    def __init__(self, world: World) -> None:
        self.module = FineTuning(world.recommender(), world.curriculum, TrainConfig(), 0)
        self.model = self.module.model
        self.optimizer = Optimizer(self.model.adapter_parameters(), self.model.fusion_parameters())

    def prepare(self, step: Step) -> Any:
        """What the data loader has ready."""
        return step.ours

    def backward(self, batch: Any) -> None:
        """Forward and backward passes."""
        self.module.accumulate(batch)

    def finish(self) -> None:
        """The optimizer's part."""
        self.module.gradient_norms()
        self.optimizer.step()

    def gradients(self) -> dict[str, Tensor]:
        """By name: fusion parameters, and each adapter's part of the stacks."""
        found = {f"fusion.{name}": p.grad for name, p in self.model.fusion.named_parameters()}
        for name, layer in self.model.layers.items():
            start = 0
            for spec in layer.adapters:
                stop = start + spec.rank
                found[f"{name}.{spec.name}.A"] = layer.lora_a.grad[start:stop]
                found[f"{name}.{spec.name}.B"] = layer.lora_b.grad[:, start:stop]
                start = stop
        return found


class StockPeft:
    """Batches of one task, both of its adapters active, two passes, logits at answer positions alone."""

    def __init__(self, world: World) -> None:
        self.world, self.fusion = world, world.fusion()
        self.peft = with_adapters(world)
        self.lora = {n: p for n, p in self.peft.named_parameters() if "lora_" in n}
        self.base = self.peft.get_base_model()
        self.optimizer = Optimizer(list(self.lora.values()), list(self.fusion.parameters()))

    def prepare(self, step: Step) -> Any:
        """Batches by task, as text and as slot prompts."""
        batch = self.world.batch
        by_task = [(task, batch(rows, slots=False), batch(rows, slots=True)) for task, rows in step.by_task]
        return by_task, step.weights

    def backward(self, prepared: Any) -> None:
        """Two passes a task; adapters are frozen in the second."""
        by_task, (text_weight, slot_weight) = prepared
        for task, text, fused in by_task:
            self.peft.base_model.set_adapter(["shared", task])
            (text_weight * self.loss(text)).backward()
            for parameter in self.lora.values():
                parameter.requires_grad_(False)
            (slot_weight * self.loss(fused)).backward()

    def loss(self, batch: PromptBatch) -> Tensor:
        """Weighted negative log-probability of the answers."""
        embeddings = self.base.get_input_embeddings()(batch.input_ids)
        if batch.slots is not None:
            embeddings = embeddings.index_put((batch.slots.rows, batch.slots.positions), self.fusion(batch.slots))
        hidden = self.base.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        logits = self.base.lm_head(hidden[batch.answer_rows, batch.answer_positions])
        return (F.cross_entropy(logits, batch.answer_targets, reduction="none") * batch.answer_weights).sum()

    def finish(self) -> None:
        """The optimizer's part."""
        for parameter in self.lora.values():
            parameter.requires_grad_(True)
        self.optimizer.step()

    def gradients(self) -> dict[str, Tensor]:
        """By the names of `Ours.gradients`."""
        found = {f"fusion.{name}": p.grad for name, p in self.fusion.named_parameters()}
        for name, parameter in self.lora.items():
            module, kind, adapter, _ = name.removeprefix("base_model.model.").rsplit(".", 3)
            found[f"{module}.{adapter}.{kind[-1]}"] = parameter.grad
        return found


class Released(StockPeft):
    """The eight passes of the released step: anomaly detection, a loop over rows, logits of the whole vocabulary at
    every position, gradients of the adapters in both streams (those of the slot stream are thrown away)."""

    def backward(self, prepared: Any) -> None:
        """Eight forward and backward passes."""
        by_task, (text_weight, slot_weight) = prepared
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.autograd.set_detect_anomaly(True):
                for task, text, fused in by_task:
                    self.peft.base_model.set_adapter(["shared", task])
                    (text_weight * self.loss(text)).backward()
                    kept = {name: p.grad for name, p in self.lora.items()}
                    for parameter in self.lora.values():
                        parameter.grad = None
                    (slot_weight * self.loss(fused)).backward()
                    for name, parameter in self.lora.items():
                        parameter.grad = kept[name]

    def loss(self, batch: PromptBatch) -> Tensor:
        """Cross-entropy over all positions, the prompts' masked out."""
        embeddings = self.base.get_input_embeddings()(batch.input_ids)
        if batch.slots is not None:
            values = self.fusion(batch.slots)
            for place in range(len(values)):
                embeddings = embeddings.clone()
                embeddings[batch.slots.rows[place], batch.slots.positions[place]] = values[place]
        lengths = batch.input_ids.new_zeros(len(batch.input_ids)).index_reduce(
            0, batch.answer_rows, batch.answer_positions + 1, "amax"
        )
        mask = (torch.arange(batch.input_ids.shape[1]) < lengths[:, None]).long()
        labels = torch.full(batch.input_ids.shape, -100)
        labels[batch.answer_rows, batch.answer_positions] = batch.answer_targets
        logits = self.base(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits.float()
        total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
        return total * batch.answer_weights[0]


def with_adapters(world: World) -> nn.Module:
    """Stock PEFT on a backbone of its own, with the weights that ckf's adapters have."""
    configs = {
        spec.name: LoraConfig(
            r=spec.rank, lora_alpha=spec.alpha, lora_dropout=0.0, target_modules=list(spec.target_modules)
        )
        for spec in world.specs
    }
    names = list(configs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = get_peft_model(world.base(), configs[names[0]], adapter_name=names[0])
        for name in names[1:]:
            peft.add_adapter(name, configs[name])
    parameters = dict(peft.named_parameters())
    with torch.no_grad():
        for adapter, modules in world.adapter_weights().items():
            for module, pair in modules.items():
                for kind, value in zip("AB", pair, strict=True):
                    parameters[f"base_model.model.{module}.lora_{kind}.{adapter}.weight"].copy_(value)
    return peft
