"""Backbone, adapters and fusion joined: a batch of prompts in, log-probabilities of answers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ckf.model.attention import Masks, attention_masks, branch_allowed
from ckf.model.backbone import vocabulary_logits
from ckf.model.fusion import Fusion
from ckf.model.lora import AdapterSpec, MultiLoraLinear, Routing
from ckf.model.prefix import Past
from ckf.prompts.collate import PromptBatch, SlotBatch


class Recommender(nn.Module):
    """A frozen causal language model with Multi-LoRA and slot embeddings.

    ``backbone`` is a ``transformers`` causal LM whose targeted projections are already replaced by
    ``layers``; ``fusion`` is None for text-only models.
    """

    def __init__(
        self,
        backbone: Any,
        layers: Mapping[str, MultiLoraLinear],
        adapters: Sequence[AdapterSpec],
        routing: Routing,
        fusion: Fusion | None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = dict(layers)
        self.adapters = list(adapters)
        self.routing = routing
        self.fusion = fusion

    def adapter_parameters(self) -> list[nn.Parameter]:
        """The stacked adapters of all layers."""
        return [p for layer in self.layers.values() for p in (layer.lora_a, layer.lora_b)]

    def fusion_parameters(self) -> list[nn.Parameter]:
        """The fusion's parameters; empty for text-only models."""
        return list(self.fusion.parameters()) if self.fusion is not None else []

    def forward(
        self, batch: PromptBatch, *, learn_adapters: bool = True, learn_fusion: bool = True, past: Past | None = None
    ) -> Tensor:
        """Log-probability [A] of each answer token of the batch.

        ``learn_adapters`` and ``learn_fusion`` cut the graph, not the values: what may not learn from
        this batch is detached, so it gets no gradient from it whatever the loss. ``past`` is what the
        rows have behind them.
        """
        self.routing.learn = learn_adapters
        hidden = self.hidden(batch, learn_fusion=learn_fusion, past=past)
        # the vocabulary projection is the largest matrix there is: only answer positions go through it
        logits = vocabulary_logits(self.backbone, hidden[batch.answer_rows, batch.answer_cols])
        if batch.answer_read is not None:  # several answers start at one position
            return logits.log_softmax(dim=1)[batch.answer_read, batch.answer_targets]
        return -F.cross_entropy(logits, batch.answer_targets, reduction="none")

    def hidden(self, batch: PromptBatch, *, learn_fusion: bool = True, past: Past | None = None) -> Tensor:
        """Last hidden states [B, T, d]; what is read is appended to the cache of ``past``."""
        self.routing.task_index = batch.task_index
        embeddings = self.backbone.get_input_embeddings()(batch.input_ids)
        if batch.slots is not None:
            embeddings = self._fill_slots(embeddings, batch.slots, learn_fusion)
        states: Tensor = self.backbone.get_decoder()(
            inputs_embeds=embeddings,
            attention_mask=self._masks(batch, embeddings.dtype, past),
            position_ids=batch.position_ids,
            past_key_values=None if past is None else past.cache,
            use_cache=past is not None,
        ).last_hidden_state
        return states

    def _masks(self, batch: PromptBatch, dtype: torch.dtype, past: Past | None) -> Masks | None:
        if batch.branch_of is None or batch.position_ids is None:
            return None
        allowed, keys = branch_allowed(batch.branch_of), batch.position_ids
        if past is not None:
            before = past.allowed[:, None, :].expand(-1, allowed.shape[1], -1)
            allowed, keys = torch.cat([before, allowed], dim=2), torch.cat([past.positions, keys], dim=1)
        return attention_masks(self.backbone.config, allowed, batch.position_ids, dtype, keys)

    def _fill_slots(self, embeddings: Tensor, slots: SlotBatch, learn: bool) -> Tensor:
        if self.fusion is None:
            raise RuntimeError("prompts with slots need a fusion")
        values = self.fusion(slots).to(embeddings.dtype)
        return embeddings.index_put((slots.rows, slots.cols), values if learn else values.detach())
