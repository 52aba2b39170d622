"""Slots: every row is fused, the personal matrix reads the history, cold ids have a defined vector."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ckf.cf.vectors import VectorTables
from ckf.prompts.collate import Collator
from tests.conftest import CF_DIM, make_fusion, make_model


def scores(model, collator: Collator, examples: list, slots: bool = True) -> torch.Tensor:
    """Summed answer log-probability of each row."""
    batch = collator.training(examples, [1.0] * len(examples), slots=slots)
    with torch.no_grad():
        return torch.zeros(len(examples)).index_add_(0, batch.answer_rows, model.eval()(batch))


@pytest.mark.parametrize("kind", ["linear", "meta"])
def test_every_row_is_fused_not_only_the_last(backbone_folder, tables, collator, mixed, kind):
    model = make_model(backbone_folder, tables, kind)
    before = scores(model, collator, mixed)
    other = VectorTables(tables.users + 1.0, tables.items - 1.0)
    after = scores(model, Collator(collator.encoder, collator.tasks, other), mixed)
    assert ((before - after).abs() > 1e-5).all(), "a row whose score does not depend on its vectors"


def test_slot_positions_hold_the_fusions_output(model, collator, mixed):
    batch = collator.training(mixed, [1.0] * len(mixed), slots=True)
    slots = batch.slots
    embeddings = model.backbone.get_input_embeddings()(batch.input_ids)
    filled = model._fill_slots(embeddings, slots, True)
    values = model.fusion(slots)
    at = 0
    for row in [*slots.user_rows.tolist(), *slots.item_rows.tolist()]:  # the naive way, slot by slot
        assert slots.rows[at] == row
        torch.testing.assert_close(filled[row, slots.cols[at]], values[at])
        at += 1
    assert at == len(slots.rows)
    untouched = torch.ones(embeddings.shape[:2], dtype=torch.bool)
    untouched[slots.rows, slots.cols] = False
    assert torch.equal(filled[untouched], embeddings[untouched])


def test_topk_has_one_item_slot_for_each_candidate_in_order(collator, tables, mixed):
    example = next(x for x in mixed if x.task == "topk")
    batch = collator.training([example], [1.0], slots=True)
    torch.testing.assert_close(batch.slots.items, tables.items[torch.from_numpy(example.candidates)])
    assert len(batch.slots.user_rows) == 1


def test_meta_is_personal_by_history(model, collator, mixed):
    changed = [dataclasses.replace(x, history=x.history[-1:], history_ratings=x.history_ratings[-1:]) for x in mixed]
    batch = collator.training(mixed, [1.0] * len(mixed), slots=True)
    other = collator.training(changed, [1.0] * len(mixed), slots=True)
    first, second = (
        model.fusion(b.slots.users, b.slots.items, b.slots.history, b.slots.history_mask)[0] for b in (batch, other)
    )
    differs = torch.tensor([len(x.history) > 1 for x in mixed])
    assert ((first - second).abs().amax(dim=(1, 2)) > 1e-6)[differs].all()


def test_meta_starts_near_linear_and_history_order_does_not_matter():
    fusion = make_fusion("meta", 16)
    users, items = torch.randn(3, CF_DIM), torch.randn(5, CF_DIM)
    history, mask = torch.randn(3, 4, CF_DIM), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    out, _ = fusion(users, items, history, mask)
    swapped, _ = fusion(users, items, history[:, [2, 0, 1, 3]], mask[:, [2, 0, 1, 3]])
    torch.testing.assert_close(out, swapped)
    assert torch.isfinite(out).all(), "an empty history must not divide by zero"
    torch.testing.assert_close(fusion.user_map(fusion.standardise(users, "user")), out[:, 0], atol=0.5, rtol=0.5)


@torch.no_grad()
def test_slots_start_with_the_norm_of_a_word_embedding(tables):
    for kind in ("linear", "meta"):
        fusion = make_fusion(kind, 64)
        fusion.fit_scale(tables)
        mask = torch.ones(8, 1).bool()
        users, items = fusion(tables.users[1:], tables.items[1:], tables.items[1:9, None], mask)
        assert 0.5 < float(users.norm(dim=-1).mean()) < 2.0
        assert 0.5 < float(items.norm(dim=-1).mean()) < 2.0


def test_a_cold_id_is_the_average_one(tables):
    fusion = make_fusion("linear", 16)
    fusion.fit_scale(tables)
    assert torch.equal(fusion.standardise(torch.zeros(2, CF_DIM), "user"), torch.zeros(2, CF_DIM))


def test_shuffling_users_changes_a_fused_model_and_not_a_text_only_one(backbone_folder, tables, collator, mixed):
    shuffled = Collator(collator.encoder, collator.tasks, tables.shuffled(5))
    fused = make_model(backbone_folder, tables, "meta")
    assert (scores(fused, collator, mixed) - scores(fused, shuffled, mixed)).abs().max() > 1e-5
    text = make_model(backbone_folder, tables, "none")
    assert torch.equal(scores(text, collator, mixed, slots=False), scores(text, shuffled, mixed, slots=False))


def test_shuffled_tables_are_a_permutation_that_leaves_padding(tables):
    other = tables.shuffled(7)
    assert torch.equal(other.users[0], tables.users[0])
    assert not torch.equal(other.users, tables.users)
    assert sorted(map(tuple, other.items.tolist())) == sorted(map(tuple, tables.items.tolist()))
    assert torch.equal(other.users, tables.shuffled(7).users)
