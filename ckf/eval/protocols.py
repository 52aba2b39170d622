"""Other ways to answer a candidate list than scoring its titles: each is a protocol with a name of its own.

``slots``: the last hidden state against the fused item vectors. ``gen``: a title is written, greedily, and
whatever is none of the candidates is unusable. ``trie``: a title is written along the candidates' titles.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ckf.core.errors import ConfigError, Problem
from ckf.data.example_table import Example, ExampleTable
from ckf.eval.generate import Choice, Trie, constrained, generate, greedy
from ckf.eval.predictions import list_rows
from ckf.eval.scoring_batches import plan_batches
from ckf.model.recommender import Recommender
from ckf.prompts.batch import SlotBatch
from ckf.prompts.collate import Collators

TAGS = {"slots": "slot", "generate": "gen", "constrained": "trie"}
"""The mark of each protocol in a metric's name, e.g. ``hr@1[gen]``."""
WRITTEN = ("gen", "trie")
"""Protocols that name one title, so that there is no order beyond the first place."""


def answered_lists(
    model: Recommender, collators: Collators, table: ExampleTable, protocol: str, source: str,
    *, slots: bool, batch_size: int, device: torch.device,
) -> pd.DataFrame:  # fmt: skip
    """Rows of the lists of a table (topk alone), answered by a protocol; NaN in a list is an unusable answer."""
    answer: Callable[[list[Example]], list[np.ndarray]]
    if protocol == "slots":
        needs_item_slots(model)

        def answer(examples: list[Example]) -> list[np.ndarray]:
            return slot_match(model, collators, examples, [x.candidates for x in examples], device=device)
    else:

        def answer(examples: list[Example]) -> list[np.ndarray]:
            return _written(model, collators, examples, protocol, slots=slots, device=device)

    model.to(device).eval()
    scores: list[np.ndarray] = [np.empty(0)] * len(table)
    for rows in plan_batches(table, collators, slots=slots, size=batch_size):
        for row, found in zip(rows, answer([table[int(i)] for i in rows]), strict=True):
            scores[row] = found
    frame = list_rows(table, np.arange(len(table)), source)
    titles = [collators.encoder.titles[item] for item in frame["item"]]
    return frame.assign(score=np.concatenate(scores) if scores else [], answer=titles)


def needs_item_slots(model: Recommender | None) -> None:
    """Refuse a model whose fusion makes no item vectors.

    Raises:
        ConfigError: the fusion has no item vectors; the message names those that do.
    """
    if model is None or model.fusion is None or "item" not in getattr(model.fusion, "slots", ()):
        raise ConfigError(
            [Problem("slot match", "needs a fusion with <item> slots (linear, mlp, meta); this run has none")]
        )


@torch.inference_mode()
def slot_match(
    model: Recommender, collators: Collators, examples: list[Example], items: list[np.ndarray], *, device: torch.device
) -> list[np.ndarray]:
    """Product of the last hidden state of each topk prompt with the fused vectors of its items. [len(items[b])] each"""
    asked, lengths = collators.generation(examples, slots=True)
    rows = torch.arange(len(examples), device=device)
    hidden = model.hidden(asked.to(device))[rows, lengths.to(device) - 1].float()
    if asked.slots is None:
        raise ConfigError([Problem("slot match", "the topk prompt of this run holds no slot")])
    vectors = _item_vectors(model, collators, asked.slots, items).to(device)
    owner = torch.repeat_interleave(rows, torch.tensor([len(part) for part in items], device=device))
    matched = (vectors.float() * hidden[owner]).sum(dim=1).double().cpu().numpy()
    return np.split(matched, np.cumsum([len(part) for part in items])[:-1])


def _item_vectors(model: Recommender, collators: Collators, slots: SlotBatch, items: list[np.ndarray]) -> Tensor:
    """What the fusion makes of items for the user of each row, the mean over a slot's tokens. [N, D]"""
    fusion, tables = model.fusion, collators.tables
    assert fusion is not None, "looked at by needs_item_slots"
    assert tables is not None, "fusions with item slots read vectors"
    flat = torch.from_numpy(np.concatenate(items).astype(np.int64))
    none, width = torch.empty(0, dtype=torch.long), tables.dim
    owner = torch.repeat_interleave(torch.arange(len(items)), torch.tensor([len(part) for part in items]))
    place = torch.zeros(len(flat) * fusion.tokens_per_slot, dtype=torch.long)
    asked = SlotBatch(
        ("item",), place, place, none, owner, none, none, slots.users, tables.items[flat], torch.empty(0, width),
        slots.history, slots.history_mask,
    )  # fmt: skip
    device = next(fusion.parameters()).device
    return fusion(asked.to(device)).view(len(flat), fusion.tokens_per_slot, -1).mean(dim=1)


def _written(
    model: Recommender,
    collators: Collators,
    examples: list[Example],
    protocol: str,
    *,
    slots: bool,
    device: torch.device,
) -> list[np.ndarray]:
    """1 for the candidate whose title was written, 0 for the others; NaN for all where it is none of them."""
    encoder = collators.encoder
    answers = [[encoder.answer_ids(x.task, label) for label in encoder.labels(x)] for x in examples]
    choose: Choice = greedy
    if protocol == "constrained":
        choose = constrained([Trie.of(titles) for titles in answers], encoder.eos)
    longest = max(len(ids) for titles in answers for ids in titles)
    texts = generate(model, collators, examples, choose, slots=slots, tokens=longest, device=device)
    found = []
    for example, ids in zip(examples, texts, strict=True):
        written = encoder.tokenizer.decode(ids[:-1]).strip() if ids and ids[-1] == encoder.eos else None
        hit = [written == title.strip() for title in encoder.labels(example)]
        found.append(np.asarray(hit, dtype=float) if any(hit) else np.full(len(hit), np.nan))
    return found
