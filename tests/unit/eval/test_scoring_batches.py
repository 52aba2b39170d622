"""Prompts that begin alike read their beginning once, and score as each prompt does alone, on every family."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ckf.eval.scoring_batches import score_batch, shared_beginnings
from tests.conftest import TITLES, make_example
from tests.unit.model.attention.test_masks import alone
from tests.unit.model.families import KINDS, recommender

CPU = torch.device("cpu")


def same_user(task: str, items: range) -> list:
    """Examples of one user and history, each with its own target or candidates."""
    first = make_example(task, 3)
    history = np.arange(1, 6)
    rows = []
    for item in items:
        others = np.asarray([1 + (item + step) % (len(TITLES) - 1) for step in range(1, 5)])
        own = {"candidates": others, "position": 0} if task == "topk" else {}
        ratings = np.full(5, 4.0, dtype=np.float32)
        rows.append(dataclasses.replace(first, item=item, history=history, history_ratings=ratings, **own))
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_shared_prompts_score_as_each_answer_alone(kind, checkpoint, collator, tables):
    """Windows of 8 positions are far shorter than the prompts, so a wrong position or mask shows."""
    model = recommender(kind, checkpoint(kind), tables).eval()
    examples = [*same_user("ctr", range(6, 10)), *same_user("rating", range(6, 9)), *same_user("topk", range(6, 9))]
    examples += [make_example("ctr", 1), make_example("topk", 2)]
    found = score_batch(model, collator, examples, slots=True, device=CPU).answers
    with torch.no_grad():
        for example, scores in zip(examples, found, strict=True):
            expected = [float(alone(model, collator, example, label)) for label in collator.encoder.labels(example)]
            np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_the_beginning_is_read_once(model, collator, monkeypatch):
    """Without sharing, the tokens that go through the backbone are those of every prompt."""
    model.eval()
    read = []
    original = type(model).hidden

    def counted(self, batch, **options):
        read.append(batch.input_ids.numel())
        return original(self, batch, **options)

    monkeypatch.setattr(type(model), "hidden", counted)
    examples = same_user("ctr", range(6, 12))
    shared = score_batch(model, collator, examples, slots=True, device=CPU).answers
    together, read[:] = sum(read), []
    for example, scores in zip(examples, shared, strict=True):
        (alone_scores,) = score_batch(model, collator, [example], slots=True, device=CPU).answers
        np.testing.assert_allclose(scores, alone_scores, atol=1e-4)
    assert together < 0.5 * sum(read)


def test_a_beginning_ends_before_the_first_slot_and_the_last_token(collator):
    examples = same_user("ctr", range(6, 9))
    prompts = collator.prompts(examples, slots=True)
    owner, heads, lengths = shared_beginnings(examples, prompts)
    assert owner == [0, 0, 0]
    assert heads == [0]
    assert 5 < lengths[0] < min(prompt.slots[0][0] for prompt in prompts)
    same = shared_beginnings([examples[0]] * 2, [dataclasses.replace(prompts[0], slots=[])] * 2)
    assert same[2] == [len(prompts[0].token_ids) - 1]


def test_half_star_labels_are_scored_whole(backbone_folder, prompts, tables):
    """ "4" begins "4.5": each label counts with its terminator, and all of them share the prompt."""
    from ckf.model.backbone import load_tokenizer
    from ckf.prompts.collate import Collators
    from ckf.prompts.encode import PromptEncoder
    from tests.conftest import TASKS, make_model

    scale = [f"{half / 2:g}" for half in range(1, 11)]
    halves = Collators(PromptEncoder(load_tokenizer(backbone_folder), prompts, TITLES, scale), TASKS, tables)
    model, example = make_model(backbone_folder, tables).eval(), make_example("rating", 2)
    (scores,) = score_batch(model, halves, [example], slots=True, device=CPU).answers
    assert len(scores) == 10
    with torch.no_grad():
        expected = [float(alone(model, halves, example, label)) for label in scale]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert len(halves.encoder.answer_ids("rating", "4.5")) > len(halves.encoder.answer_ids("rating", "4"))
