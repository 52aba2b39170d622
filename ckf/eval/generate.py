"""Generate text: greedy, sampled with a named seed, or among given answers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ckf.core.rng import hash_ids, hashed_uniform
from ckf.data.example_table import Example
from ckf.model.attention.kv_cache import KVCacheState
from ckf.model.backbone import vocabulary_logits
from ckf.model.recommender import Recommender
from ckf.prompts.batch import PromptBatch
from ckf.prompts.collate import Collators

Choice = Callable[[Tensor, list[list[int]]], Tensor]
"""From log-probabilities [B, V] of the next token and what each row has written to the next tokens [B]."""


@torch.inference_mode()
def generate(
    model: Recommender, collators: Collators, examples: list[Example], choose: Choice,
    *, slots: bool, tokens: int, device: torch.device,
) -> list[list[int]]:  # fmt: skip
    """Generate the model's answer to each prompt: token ids, at most ``tokens``, ending with the terminator if it came.

    ``model`` must be on ``device`` and in eval mode. The prompt is read once; each step reads one token a row.
    """
    batch, lengths = collators.generation(examples, slots=slots)
    batch, lengths = batch.to(device), lengths.to(device)
    rows = torch.arange(len(examples), device=device)
    past = KVCacheState.empty(len(examples), device)
    hidden = model.hidden(batch, past=past)[rows, lengths - 1]
    columns = torch.arange(batch.input_ids.shape[1], device=device).expand(len(examples), -1)
    past.append(columns < lengths[:, None], columns)
    written: list[list[int]] = [[] for _ in examples]
    eos, done = collators.encoder.eos, torch.zeros(len(examples), dtype=torch.bool, device=device)
    for step in range(tokens):
        chosen = choose(vocabulary_logits(model.backbone, hidden).log_softmax(dim=1), written)
        for row, token in enumerate(chosen.tolist()):
            if not done[row]:
                written[row].append(token)
        done = done | (chosen == eos)
        if done.all() or step == tokens - 1:
            break
        position = (lengths + step)[:, None]
        hidden = model.hidden(_next(batch, chosen[:, None], position), past=past)[:, 0]
        past.append(torch.ones_like(position, dtype=torch.bool), position)
    return written


def _next(batch: PromptBatch, ids: Tensor, position: Tensor) -> PromptBatch:
    """One token a row, which may look at all that the row has behind it."""
    none = torch.empty(0, dtype=torch.long)
    return PromptBatch(
        ids, batch.task_index, none, none, none, torch.empty(0), none, position, torch.zeros_like(position)
    )


def greedy(log_probabilities: Tensor, written: list[list[int]]) -> Tensor:
    """The most probable token."""
    return log_probabilities.argmax(dim=1)


def sampled(example_ids: Sequence[str], seed: int, tokens: int, temperature: float = 1.0) -> Choice:
    """Sample tokens by (seed, example, position), so that a text does not depend on its batch."""
    draws = hashed_uniform(seed, "tokens of a written answer", hash_ids(example_ids), tokens)

    def choose(log_probabilities: Tensor, written: list[list[int]]) -> Tensor:
        step = max(len(ids) for ids in written)
        chance = (log_probabilities.double() / temperature).softmax(dim=1).cumsum(dim=1)
        drawn = torch.from_numpy(np.ascontiguousarray(draws[:, step])).to(chance.device)
        return torch.searchsorted(chance, drawn[:, None] * chance[:, -1:], right=True)[:, 0].clamp(
            max=chance.shape[1] - 1
        )

    return choose


@dataclass
class Trie:
    """Answers as paths of tokens; ``next`` holds the tokens that may follow."""

    next: dict[int, Trie] = field(default_factory=dict)

    @classmethod
    def of(cls, answers: Sequence[Sequence[int]]) -> Trie:
        """The trie of some answers, each ending with its terminator."""
        root = cls()
        for answer in answers:
            node = root
            for token in answer:
                node = node.next.setdefault(token, cls())
        return root

    def after(self, written: Sequence[int]) -> list[int]:
        """Tokens that may follow what was written; none after a whole answer."""
        node = self
        for token in written:
            node = node.next[token]
        return sorted(node.next)


def constrained(tries: Sequence[Trie], eos: int) -> Choice:
    """The most probable token that goes on along one of each row's answers."""

    def choose(log_probabilities: Tensor, written: list[list[int]]) -> Tensor:
        chosen = []
        for row, (trie, ids) in enumerate(zip(tries, written, strict=True)):
            allowed = trie.after(ids)
            best = int(log_probabilities[row, allowed].argmax()) if allowed else 0
            chosen.append(allowed[best] if allowed else eos)
        return torch.tensor(chosen, device=log_probabilities.device)

    return choose
