"""Backbone, adapters and fusion joined: a batch of prompts in, log-probabilities of answers out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ckf.model.attention.kv_cache import KVCacheState
from ckf.model.attention.last_layer import LastLayer, OutputPositions
from ckf.model.attention.masks import Masks, after_prefix_allowed, attention_masks, branch_allowed
from ckf.model.attention.prefix_cache import PrefixBank, RecordingCache, States
from ckf.model.attention.split_kv import take_parts
from ckf.model.backbone import vocabulary_logits
from ckf.model.fusion import Fusion
from ckf.model.lora import AdapterRouting, AdapterSpec, MultiLoraLinear
from ckf.prompts.batch import PromptBatch, SlotBatch


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
        routing: AdapterRouting,
        fusion: Fusion | None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = dict(layers)
        self.adapters = list(adapters)
        self.routing = routing
        self.fusion = fusion
        self.in_parts = take_parts(backbone)
        self._last_layer = LastLayer(backbone.get_decoder().layers[-1])

    def adapter_parameters(self) -> list[nn.Parameter]:
        """The stacked adapters of all layers."""
        return [p for layer in self.layers.values() for p in (layer.lora_a, layer.lora_b)]

    def fusion_parameters(self) -> list[nn.Parameter]:
        """The fusion's parameters; empty for text-only models."""
        return list(self.fusion.parameters()) if self.fusion is not None else []

    def forward(
        self,
        batch: PromptBatch,
        *,
        learn_adapters: bool = True,
        learn_fusion: bool = True,
        states: States | None = None,
        past: KVCacheState | None = None,
    ) -> Tensor:
        """Log-probability [A] of each answer token of the batch.

        ``learn_adapters`` and ``learn_fusion`` cut the graph, not the values: what may not learn from
        this batch is detached, so it gets no gradient from it whatever the loss. ``states`` keeps the keys
        and values of the pass, or holds those of the prefix that the batch goes on from; ``past`` is what
        the rows have behind them.
        """
        self.routing.learn = learn_adapters
        reads, place = OutputPositions.of(batch.answer_rows, batch.answer_cols, len(batch.input_ids))
        hidden = self.hidden(batch, learn_fusion=learn_fusion, states=states, past=past, reads=reads)
        # the vocabulary projection is the largest matrix there is: only answer positions go through it
        logits = vocabulary_logits(self.backbone, hidden[batch.answer_rows, place])
        if batch.answer_read is not None:  # several answers start at one position
            return logits.log_softmax(dim=1)[batch.answer_read, batch.answer_targets]
        return -F.cross_entropy(logits, batch.answer_targets, reduction="none")

    def hidden(
        self,
        batch: PromptBatch,
        *,
        learn_fusion: bool = True,
        states: States | None = None,
        past: KVCacheState | None = None,
        reads: OutputPositions | None = None,
    ) -> Tensor:
        """Last hidden states [B, T, d], or [B, Q, d] of ``reads``; the pass is appended to the cache of ``past``."""
        self.routing.route(batch.task_index)
        embeddings = self.backbone.get_input_embeddings()(batch.input_ids)
        if batch.slots is not None:
            embeddings = self._fill_slots(embeddings, batch.slots, learn_fusion)
        with self._last_layer.reading(reads):
            found: Tensor = self.backbone.get_decoder()(
                inputs_embeds=embeddings,
                attention_mask=self._masks(batch, embeddings.dtype, past),
                position_ids=batch.position_ids,
                past_key_values=states if past is None else past.cache,
                use_cache=past is not None,
            ).last_hidden_state
        return found

    def two_streams(self, texts: Sequence[PromptBatch], branches: Sequence[PromptBatch]) -> Iterator[Tensor]:
        """Log-probabilities of each text batch's answers [A], then of each branch batch's [A'], prefixes computed once.

        ``branches`` are what slot prompts hold after the beginning that each shares with its text prompt
        (`Collator.branch`), in any order and number of passes. Adapters learn from the text and the fusion from
        the branches, as in two passes with these rights: the prefix holds no slot, and what a branch reads of it
        is cut from the graph, so its backward pass is as short as it is, and the text's may be over before it
        starts. With dropout each stream keeps its distribution; both see one draw of the prefix.
        """
        passes = [RecordingCache() for _ in texts]
        for text, states in zip(texts, passes, strict=True):
            yield self(text, learn_fusion=False, states=states)
        lengths = [int(branch.prefix.max()) for branch in branches if branch.prefix is not None]
        if len(lengths) < len(branches):
            raise RuntimeError("the batch is no branch; make it with Collator.branch")
        beginnings = PrefixBank(passes, max(lengths))
        for branch, length in zip(branches, lengths, strict=True):
            yield self(branch, learn_adapters=False, states=beginnings.of(branch.prefix_rows, length))

    def _masks(self, batch: PromptBatch, dtype: torch.dtype, past: KVCacheState | None) -> Masks | None:
        config = self.backbone.config
        if batch.prefix is not None and batch.position_ids is not None:
            width = int(batch.prefix.max())
            allowed = after_prefix_allowed(batch.prefix, width, batch.input_ids.shape[1])
            before = torch.arange(width, device=batch.prefix.device).expand(len(batch.prefix), width)
            positions = torch.cat([before, batch.position_ids], dim=1)
            return attention_masks(config, allowed, batch.position_ids, dtype, positions)
        if batch.branch_of is None or batch.position_ids is None:
            return None
        allowed, keys = branch_allowed(batch.branch_of), batch.position_ids
        if past is not None:
            behind = past.allowed[:, None, :].expand(-1, allowed.shape[1], -1)
            allowed, keys = torch.cat([behind, allowed], dim=2), torch.cat([past.positions, keys], dim=1)
        return attention_masks(config, allowed, batch.position_ids, dtype, keys)

    def _fill_slots(self, embeddings: Tensor, slots: SlotBatch, learn: bool) -> Tensor:
        if self.fusion is None:
            raise RuntimeError("prompts with slots need a fusion")
        values = self.fusion(slots).to(embeddings.dtype)
        return embeddings.index_put((slots.rows, slots.cols), values if learn else values.detach())
