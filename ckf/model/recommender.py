"""Backbone, adapters and fusion joined: a batch of prompts in, log-probabilities of answers out.

`ckf/model/attention/README.md` explains how the forward passes share work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ckf.model.attention.kv_cache import KVCacheState
from ckf.model.attention.last_layer import LastLayer, OutputPositions
from ckf.model.attention.masks import Masks, attention_masks, branch_allowed, prefixed_allowed
from ckf.model.attention.prefix_cache import PrefixBank, PrefixedCache, RecordingCache
from ckf.model.attention.split_kv import enable_split_kv
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
        self.split_kv = enable_split_kv(backbone)
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
        prefix_cache: RecordingCache | PrefixedCache | None = None,
        past: KVCacheState | None = None,
    ) -> Tensor:
        """Log-probability [A] of each answer token of the batch.

        Args:
            batch: the prompts, and the answer tokens with their positions.
            learn_adapters, learn_fusion: False detaches that part, so that it gets no gradient from this batch.
                The values stay the same.
            prefix_cache: records the keys and values of this pass, or holds those of the prefix that the rows
                continue (`forward_shared_prefix`).
            past: keys and values of tokens before the rows' own (scoring and generation).

        Raises:
            RuntimeError: prompts with slots without a fusion.
            ValueError: the fusion returns another number of embeddings than the batch has slot tokens.
        """
        self.routing.learn = learn_adapters
        outputs, column = OutputPositions.of(batch.answer_rows, batch.answer_positions, len(batch.input_ids))
        hidden = self.hidden(batch, learn_fusion=learn_fusion, prefix_cache=prefix_cache, past=past, outputs=outputs)
        # the vocabulary projection is the largest matrix of all: only answer positions go through it
        logits = vocabulary_logits(self.backbone, hidden[batch.answer_rows, column])
        if batch.logit_index is not None:  # several answers begin at one position
            return logits.log_softmax(dim=1)[batch.logit_index, batch.answer_targets]
        return -F.cross_entropy(logits, batch.answer_targets, reduction="none")

    def hidden(
        self,
        batch: PromptBatch,
        *,
        learn_fusion: bool = True,
        prefix_cache: RecordingCache | PrefixedCache | None = None,
        past: KVCacheState | None = None,
        outputs: OutputPositions | None = None,
    ) -> Tensor:
        """Last hidden states [B, T, D], or [B, Q, D] at ``outputs``. The pass is appended to the cache of ``past``."""
        self.routing.route(batch.task_index)
        embeddings = self.backbone.get_input_embeddings()(batch.input_ids)
        if batch.slots is not None:
            embeddings = self._fill_slots(embeddings, batch.slots, learn_fusion)
        with self._last_layer.only(outputs):
            found: Tensor = self.backbone.get_decoder()(
                inputs_embeds=embeddings,
                attention_mask=self._masks(batch, embeddings.dtype, past),
                position_ids=batch.position_ids,
                past_key_values=prefix_cache if past is None else past.cache,
                use_cache=past is not None,
            ).last_hidden_state
        return found

    def forward_shared_prefix(
        self, texts: Sequence[PromptBatch], continuations: Sequence[PromptBatch]
    ) -> Iterator[Tensor]:
        """Both streams of a step with the common prefix of each text and slot prompt computed once.

        Yields the log-probabilities [A] of each text batch, then those of each batch of continuations: slot
        prompts without the prefix that each shares with its text prompt (`TrainingCollator.continuation`), in
        any order and number of batches. Adapters learn from the text and the fusion from the continuations,
        as in two separate passes. The prefix holds no slot, and the keys and values that a continuation takes
        from it are detached; the text's backward pass may therefore be over before a continuation starts.
        With dropout each stream keeps its distribution, and both see the same draw of the prefix.

        Raises:
            RuntimeError: a batch was not made by `TrainingCollator.continuation`.
        """
        recorded = [RecordingCache() for _ in texts]
        for text, cache in zip(texts, recorded, strict=True):
            yield self(text, learn_fusion=False, prefix_cache=cache)
        lengths = [int(batch.prefix_lengths.max()) for batch in continuations if batch.prefix_lengths is not None]
        if len(lengths) < len(continuations):
            raise RuntimeError("the batch has no prefix; make it with TrainingCollator.continuation")
        prefixes = PrefixBank(recorded, max(lengths))
        for batch, length in zip(continuations, lengths, strict=True):
            yield self(batch, learn_adapters=False, prefix_cache=prefixes.of(batch.prefix_rows, length))

    def _masks(self, batch: PromptBatch, dtype: torch.dtype, past: KVCacheState | None) -> Masks | None:
        config = self.backbone.config
        if batch.prefix_lengths is not None and batch.position_ids is not None:
            width = int(batch.prefix_lengths.max())
            allowed = prefixed_allowed(batch.prefix_lengths, width, batch.input_ids.shape[1])
            before = torch.arange(width, device=allowed.device).expand(len(batch.prefix_lengths), width)
            positions = torch.cat([before, batch.position_ids], dim=1)
            return attention_masks(config, allowed, batch.position_ids, dtype, positions)
        if batch.branch_id is None or batch.position_ids is None:
            return None
        allowed, keys = branch_allowed(batch.branch_id), batch.position_ids
        if past is not None:
            before = past.allowed[:, None, :].expand(-1, allowed.shape[1], -1)
            allowed, keys = torch.cat([before, allowed], dim=2), torch.cat([past.positions, keys], dim=1)
        return attention_masks(config, allowed, batch.position_ids, dtype, keys)

    def _fill_slots(self, embeddings: Tensor, slots: SlotBatch, learn: bool) -> Tensor:
        if self.fusion is None:
            raise RuntimeError("prompts with slots need a fusion")
        values = self.fusion(slots)
        if values.shape != (len(slots.rows), embeddings.shape[-1]):
            raise ValueError(
                f"{type(self.fusion).__name__} returned embeddings of shape {tuple(values.shape)} for "
                f"{len(slots.rows)} slot tokens of width {embeddings.shape[-1]}"
            )
        values = values.to(embeddings.dtype)
        return embeddings.index_put((slots.rows, slots.positions), values if learn else values.detach())
