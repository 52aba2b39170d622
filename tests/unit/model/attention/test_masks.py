"""Scoring all answers in one forward pass equals scoring each alone."""

from __future__ import annotations

import torch

from ckf.model.attention.masks import branch_allowed
from tests.conftest import make_example


def test_branches_equal_each_answer_alone(model, collator, mixed):
    model.eval()
    with torch.no_grad():
        batch, counts = collator.scoring(mixed, slots=True)
        totals = torch.zeros(sum(counts)).index_add_(0, batch.answer_index, model(batch))
        at = 0
        for example in mixed:
            for label in collator.encoder.labels(example):
                torch.testing.assert_close(totals[at], alone(model, collator, example, label), atol=1e-4, rtol=0)
                at += 1
    assert at == len(totals)


def alone(model, collator, example, label: str) -> torch.Tensor:
    """Summed log-probability of one answer with its terminator, by an ordinary causal forward pass."""
    prompt = collator.training([example], [1.0], slots=True)
    answer = collator.encoder.answer_ids(example.task, label)
    length = len(collator.encoder.encode(example, slots=True).token_ids)
    prompt.input_ids = torch.cat([prompt.input_ids[:, :length], torch.tensor([answer[:-1]])], dim=1)
    prompt.answer_rows = torch.zeros(len(answer), dtype=torch.long)
    prompt.answer_positions = torch.arange(length - 1, length - 1 + len(answer))
    prompt.answer_targets = torch.tensor(answer)
    return model(prompt).sum()


def test_scores_do_not_depend_on_the_batch(model, collator, mixed):
    model.eval()
    with torch.no_grad():
        batch, counts = collator.scoring(mixed, slots=True)
        together = torch.zeros(sum(counts)).index_add_(0, batch.answer_index, model(batch))
        parts = []
        for example in mixed:
            one, count = collator.scoring([example], slots=True)
            parts.append(torch.zeros(sum(count)).index_add_(0, one.answer_index, model(one)))
    torch.testing.assert_close(together, torch.cat(parts), atol=1e-4, rtol=0)


def test_every_answer_is_scored_with_its_terminator(collator):
    batch, _ = collator.scoring([make_example("ctr")], slots=False)
    ends = batch.answer_targets[torch.tensor([1, 3])] if len(batch.answer_targets) == 4 else batch.answer_targets[-1:]
    assert (ends == collator.encoder.eos).all()
    assert int((batch.answer_targets == collator.encoder.eos).sum()) == 2


def test_branch_mask_by_hand():
    mask = branch_allowed(torch.tensor([[0, 0, 1, 2, 2, -1]]))[0].int()
    expected = [
        "100000",
        "110000",
        "111000",
        "110100",
        "110110",
        "110001",  # padding sees the prompt: finite numbers that nobody reads
    ]
    assert ["".join("1" if x else "0" for x in row) for row in mask.tolist()] == expected
