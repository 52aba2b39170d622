"""Form scoring batches; prompts with a common prefix share its computation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import torch

from ckf.data.example_table import Example, ExampleTable
from ckf.model.attention.kv_cache import KVCacheState
from ckf.model.recommender import Recommender
from ckf.prompts.collate import Collators
from ckf.prompts.encode import Prompt
from ckf.train.batching.batches import approximate_lengths

WORTH_SHARING = 0.75
"""Share of the tokens that must be left for a second forward pass to pay."""


def plan_batches(table: ExampleTable, collators: Collators, *, slots: bool, size: int) -> list[np.ndarray]:
    """Rows of each batch: rows of one user with one history side by side, else by length.

    A function of the table alone, so that the numbers do not depend on how many processes share the work.
    """
    lengths = approximate_lengths(table, collators)
    groups = _groups(table, collators, slots)
    _, group, members = np.unique(groups, return_inverse=True, return_counts=True)
    longest = np.zeros(len(members))
    np.maximum.at(longest, group, lengths)
    order = np.lexsort((lengths, group, longest[group], members[group] > 1))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _groups(table: ExampleTable, collators: Collators, slots: bool) -> np.ndarray:
    """A number for each row, equal where task, user and history are and the wording begins with the history. [n]"""
    able = [collators.encoder.begins_with_history(task, slots=slots) for task in table.tasks]
    numbers: dict[tuple[int, int, bytes], int] = {}
    found = np.empty(len(table), dtype=np.int64)
    for row in range(len(table)):
        task = int(table.task_index[row])
        history = table.list_of("history", row)
        if able[task] and len(history):
            key = (task, int(table.user[row]), history.tobytes())
            found[row] = numbers.setdefault(key, len(numbers))
        else:
            found[row] = -1 - row
    return found


@dataclass(frozen=True)
class Scored:
    """Log-probability of every possible answer of each example, and how many prompts lost history."""

    answers: list[np.ndarray]
    history_cut: int


@torch.inference_mode()
def score_batch(
    model: Recommender, collators: Collators, examples: list[Example], *, slots: bool, device: torch.device
) -> Scored:
    """Score all answers of some examples; a prefix that several prompts share is computed once.

    ``model`` must be on ``device`` and in eval mode. Rows that share a beginning are put side by side first.
    """
    prompts = collators.prompts(examples, slots=slots)
    owner, heads, lengths = shared_beginnings(examples, prompts)
    past, skip = None, [0] * len(prompts)
    whole = sum(len(prompt.token_ids) for prompt in prompts)
    if whole - sum(lengths[g] for g in owner) + sum(lengths) < WORTH_SHARING * whole:
        if owner != sorted(owner):
            order = np.argsort(owner, kind="stable")
            sorted_rows = score_batch(model, collators, [examples[i] for i in order], slots=slots, device=device)
            return Scored([sorted_rows.answers[i] for i in np.argsort(order)], sorted_rows.history_cut)
        first = collators.scoring.prefixes([examples[i] for i in heads], [prompts[i] for i in heads], lengths).to(
            device
        )
        past = KVCacheState.empty(len(heads), device)
        model.hidden(first, past=past)
        columns = torch.arange(first.input_ids.shape[1], device=device).expand(len(heads), -1)
        past.append(columns < torch.tensor(lengths, device=device)[:, None], columns)
        past, skip = past.expand_rows(np.bincount(owner).tolist(), split_kv=model.split_kv), [lengths[g] for g in owner]
    batch, counts = collators.scoring.after_prefix(examples, prompts, skip)
    batch = batch.to(device)
    totals = torch.zeros(sum(counts), dtype=torch.float64, device=device)
    totals.index_add_(0, batch.answer_index, model(batch, past=past).double())
    return Scored(np.split(totals.cpu().numpy(), np.cumsum(counts)[:-1]), batch.history_cut)


def shared_beginnings(examples: Sequence[Example], prompts: Sequence[Prompt]) -> tuple[list[int], list[int], list[int]]:
    """For each prompt the number of its beginning; for each beginning one prompt that has it, and its tokens.

    Prompts of one task, user and history share what is equal in all of them, before the first slot; the
    last token of a prompt is never part of it, as the answer is read from there.
    """
    numbers: dict[tuple[str, int, bytes], int] = {}
    owner = [numbers.setdefault((x.task, x.user, x.history.tobytes()), len(numbers)) for x in examples]
    heads, lengths = [0] * len(numbers), [-1] * len(numbers)
    for place, (number, prompt) in enumerate(zip(owner, prompts, strict=True)):
        ids = prompt.token_ids
        most = min(len(ids) - 1, prompt.slots[0][0] if prompt.slots else len(ids), *prompt.yes_no_positions[:1])
        if lengths[number] < 0:
            heads[number], lengths[number] = place, most
            continue
        pairs = zip(ids[: min(most, lengths[number])], prompts[heads[number]].token_ids, strict=False)
        lengths[number] = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return owner, heads, lengths
