"""Slots: every row is fused, the personal matrix reads the history, cold ids have a defined vector."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ckf.cf.vectors.tables import VectorTables
from ckf.config.registry import SCHEMAS
from ckf.core.errors import DataError
from ckf.model.build import build_fusion
from ckf.model.fusion import Fusion
from ckf.prompts.batch import PromptBatch
from ckf.prompts.collate import Collators
from tests.conftest import CF_DIM, FUSIONS, TASKS, make_example, make_fusion, make_model


def scores(model, collator: Collators, examples: list, slots: bool = True) -> torch.Tensor:
    """Summed answer log-probability of each row."""
    batch = collator.training(examples, [1.0] * len(examples), slots=slots)
    with torch.no_grad():
        return torch.zeros(len(examples)).index_add_(0, batch.answer_rows, model.eval()(batch))


@pytest.mark.parametrize("kind", ["linear", "mlp", "meta", "meta_attention", "random"])
def test_every_row_is_fused_not_only_the_last(backbone_folder, tables, collator, mixed, kind):
    model = make_model(backbone_folder, tables, kind)
    before = scores(model, collator, mixed)
    other = VectorTables(tables.users + 1.0, tables.items - 1.0)
    after = scores(model, Collators(collator.encoder, collator.tasks, other), mixed)
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
        torch.testing.assert_close(filled[row, slots.positions[at]], values[at])
        at += 1
    assert at == len(slots.rows)
    untouched = torch.ones(embeddings.shape[:2], dtype=torch.bool)
    untouched[slots.rows, slots.positions] = False
    assert torch.equal(filled[untouched], embeddings[untouched])


def test_topk_has_one_item_slot_for_each_candidate_in_order(collator, tables, mixed):
    example = next(x for x in mixed if x.task == "topk")
    batch = collator.training([example], [1.0], slots=True)
    torch.testing.assert_close(batch.slots.items, tables.items[torch.from_numpy(example.candidates)])
    assert len(batch.slots.user_rows) == 1


def swapped_history(batch: PromptBatch) -> PromptBatch:
    """The same batch with every row's history cut to its first item."""
    mask = batch.slots.history_mask.clone()
    mask[:, 1:] = False
    return dataclasses.replace(batch, slots=dataclasses.replace(batch.slots, history_mask=mask))


def trained_a_little(fusion: Fusion) -> Fusion:
    """Noise on every parameter: `meta_attention` starts at the identity, whatever the history."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return fusion


@pytest.mark.parametrize("kind", ["meta", "meta_attention", "linear", "mlp"])
@pytest.mark.parametrize("side", ["shared", "personal"])
def test_the_personal_matrix_reads_the_history(collator, mixed, kind, side):
    """User slots move with the history under the meta-networks alone; item slots only where their side is personal."""
    fusion = trained_a_little(make_fusion(kind, 16, item_projection=side))
    batch = collator.training(mixed, [1.0] * len(mixed), slots=True)
    moved = (fusion(batch.slots) - fusion(swapped_history(batch).slots)).abs().amax(dim=1) > 1e-6
    longer = torch.tensor([len(x.history) > 1 for x in mixed])
    users, items = len(batch.slots.user_rows), batch.slots.item_rows
    reads = kind.startswith("meta")
    assert (moved[:users][longer[batch.slots.user_rows]] == reads).all()
    assert (moved[users:][longer[items]] == (reads and side == "personal")).all()
    assert not moved[:users][~longer[batch.slots.user_rows]].any()


@pytest.mark.parametrize("kind", ["linear", "mlp", "meta", "meta_attention"])
def test_a_personal_item_side_depends_on_the_user(collator, mixed, tables, kind):
    for side in ("shared", "personal"):
        fusion = trained_a_little(make_fusion(kind, 16, item_projection=side))
        batch = collator.training(mixed, [1.0] * len(mixed), slots=True).slots
        mask = batch.history_mask.roll(1, dims=0)
        other = dataclasses.replace(
            batch, users=batch.users.roll(1, dims=0), history=batch.history.roll(1, dims=0), history_mask=mask
        )
        first = len(batch.user_rows)
        same = torch.equal(fusion(batch)[first:], fusion(other)[first:])
        assert same == (side == "shared")


@pytest.mark.parametrize("kind", ["meta", "meta_attention"])
def test_an_empty_history_is_defined_and_order_does_not_matter(kind):
    fusion = trained_a_little(make_fusion(kind, 16))
    users, history = torch.randn(3, CF_DIM), torch.randn(3, 4, CF_DIM)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    found = fusion.personal_matrices(users, history, mask)
    order = [2, 0, 1, 3]
    torch.testing.assert_close(found, fusion.personal_matrices(users, history[:, order], mask[:, order]))
    assert torch.isfinite(found).all(), "an empty history must not divide by zero"
    torch.testing.assert_close(found[2], fusion.personal_matrices(users, 7 * history, mask)[2])


def test_meta_attention_starts_exactly_as_linear_and_meta_near_it(collator, mixed):
    slots = collator.training(mixed, [1.0] * len(mixed), slots=True).slots
    linear = make_fusion("linear", 16)
    for kind, tolerance in (("meta_attention", 1e-6), ("meta", 0.5)):
        fusion = make_fusion(kind, 16)
        fusion.maps.load_state_dict(linear.maps.state_dict())
        torch.testing.assert_close(fusion(slots), linear(slots), atol=tolerance, rtol=0)


def test_attention_weighs_the_history_by_the_user():
    fusion = trained_a_little(make_fusion("meta_attention", 16))
    history, mask = torch.randn(1, 4, CF_DIM).expand(2, -1, -1), torch.ones(2, 4).bool()
    one, other = fusion.attended(3 * torch.randn(2, CF_DIM), history, mask)
    assert (one - other).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("kind", FUSIONS)
@pytest.mark.parametrize("tokens", [1, 3])
def test_slots_start_with_the_norm_of_a_word_embedding(collator, tables, mixed, kind, tokens):
    fusion = make_fusion(kind, 64, slots=("user", "item"), tokens_per_slot=tokens)
    fusion.fit_normalization(tables)
    examples = [make_example("ctr", number) for number in range(40)]
    slots = collator.training(examples, [1.0] * 40, slots=True).slots
    slots = dataclasses.replace(slots, soft_tasks=torch.arange(80) % len(TASKS))
    values = fusion(dataclasses.replace(slots, kinds=("soft",)) if kind == "soft_prompt" else slots)
    assert values.shape == (80 * tokens, 64)
    assert 0.6 < float(values.norm(dim=-1).mean()) < 1.7


@pytest.mark.parametrize("kind", FUSIONS)
def test_match_embedding_norm_follows_the_backbone(kind):
    """Twice the embedding norm, twice the slot; without match_embedding_norm torch's own start, whatever the norm."""
    config = SCHEMAS["fusion"][kind]

    def start(norm: float, match: bool) -> torch.Tensor:
        torch.manual_seed(0)
        fusion = build_fusion(config(name=kind, match_embedding_norm=match), CF_DIM, 16, norm, tasks=4)
        name = "vectors" if kind == "soft_prompt" else f"maps.user.{2 if kind == 'mlp' else 0}.weight"
        return fusion.state_dict()[name]

    torch.testing.assert_close(start(2.0, True), 2 * start(1.0, True))
    assert torch.equal(start(2.0, False), start(1.0, False))
    assert not torch.allclose(start(1.0, False), start(1.0, True))


@pytest.mark.parametrize("kind", FUSIONS)
def test_dropout_is_for_training_alone(collator, mixed, kind):
    fusion = make_fusion(kind, 16, dropout=0.5)
    slots = collator.training(mixed, [1.0] * len(mixed), slots=True).slots
    if kind == "soft_prompt":
        slots.kinds, slots.soft_tasks = ("soft",), torch.tensor([0, 1, 2])
    assert (fusion.train()(slots) == 0).float().mean() > 0.3
    assert torch.equal(fusion.eval()(slots), fusion(slots))


@pytest.mark.parametrize(
    ("kind", "slots", "expected"),
    [
        ("linear", ("user", "item"), 2 * (CF_DIM + 1) * 16),
        ("linear", ("user", "item", "pair"), 2 * (CF_DIM + 1) * 16 + (2 * CF_DIM + 2) * 16),
        ("mlp", ("user",), (CF_DIM + 1) * 10 * CF_DIM + (10 * CF_DIM + 1) * 16),
        ("meta", ("user",), (CF_DIM + 1) * 16 + (CF_DIM + 1) * 32 + 33 * CF_DIM**2),
        (
            "meta_attention",
            ("user",),
            (CF_DIM + 1) * 16 + 2 * (CF_DIM + 1) * 32 + (2 * CF_DIM + 1) * 32 + 33 * CF_DIM**2,
        ),
        ("random", ("user",), (CF_DIM + 1) * 16 + (CF_DIM + 1) * 32 + 33 * CF_DIM**2),
        ("soft_prompt", ("soft",), 4 * 8 * 16),
    ],
)
def test_parameter_counts_are_as_stated(kind, slots, expected):
    """The formulas of the classes' docstrings; only slots in use have a map."""
    options = {"tokens_per_slot": 8} if kind == "soft_prompt" else {}
    fusion = make_fusion(kind, 16, slots=slots, **options)
    counts = fusion.parameter_counts()
    assert sum(counts.values()) == expected == sum(p.numel() for p in fusion.parameters())
    assert {name.removesuffix(" map") for name in counts if name.endswith(" map")} == set(slots) - {"soft"}


# --- bad input --------------------------------------------------------------------------------


def test_a_user_without_a_row_is_one_line(collator):
    example = dataclasses.replace(make_example("ctr"), user=999)
    with pytest.raises(DataError, match=r"^user 999 has no row in the CF vectors \(they end at 8\)"):
        collator.training([example], [1.0], slots=True)


@pytest.mark.parametrize("kind", ["linear", "mlp", "meta", "meta_attention"])
def test_a_cold_user_with_no_history_scores(backbone_folder, collator, tables, kind):
    cold = VectorTables(tables.users * (torch.arange(len(tables.users)) != 1)[:, None], tables.items)
    example = dataclasses.replace(make_example("ctr"), user=1, history=np.empty(0, np.int64))
    model = make_model(backbone_folder, tables, kind)
    assert torch.isfinite(scores(model, collator.with_tables(cold), [example])).all()


# --- scale and control ------------------------------------------------------------------------


def test_a_cold_id_is_the_average_one(tables):
    fusion = make_fusion("linear", 16)
    fusion.fit_normalization(tables)
    assert torch.equal(fusion.standardise(torch.zeros(2, CF_DIM), "user"), torch.zeros(2, CF_DIM))


def test_shuffling_users_changes_a_fused_model_and_not_a_text_only_one(backbone_folder, tables, collator, mixed):
    shuffled = Collators(collator.encoder, collator.tasks, tables.shuffled(5))
    fused = make_model(backbone_folder, tables, "meta")
    assert (scores(fused, collator, mixed) - scores(fused, shuffled, mixed)).abs().max() > 1e-5
    text = make_model(backbone_folder, tables, "none")
    assert torch.equal(scores(text, collator, mixed, slots=False), scores(text, shuffled, mixed, slots=False))


def test_shuffled_tables_are_a_permutation_that_leaves_padding(tables):
    other = tables.shuffled(7)
    assert torch.equal(other.users[0], tables.users[0])
    assert not torch.equal(other.users[:], tables.users)
    assert sorted(map(tuple, other.items[:].tolist())) == sorted(map(tuple, tables.items.tolist()))
    assert torch.equal(other.users[:], tables.shuffled(7).users[:])


def test_a_fusion_must_fill_every_kind_of_slot(backbone_folder, tables, collator, mixed):
    """The batch names the kinds of its slots in order, and the fusion checks them."""
    slots = collator.training(mixed, [1.0] * len(mixed), slots=True).slots
    assert slots.kinds == ("user", "item")
    fusion = make_model(backbone_folder, tables, "linear", fusion_options={"slots": ("user",)}).fusion
    with pytest.raises(ValueError, match=r"LinearFusion fills <user>, and the prompts hold <item>"):
        fusion(slots)


def test_a_fusion_returns_the_kinds_in_the_order_of_the_batch(backbone_folder, tables, collator, mixed):
    slots = collator.training(mixed, [1.0] * len(mixed), slots=True).slots
    fusion = make_model(backbone_folder, tables, "linear").fusion.eval()
    users = len(slots.user_rows)
    found = fusion(slots)
    swapped = fusion(dataclasses.replace(slots, kinds=("item", "user")))
    torch.testing.assert_close(swapped, torch.cat([found[users:], found[:users]]))


def test_a_wrong_number_of_slot_embeddings_is_refused(backbone_folder, tables, collator, mixed):
    model = make_model(backbone_folder, tables, "linear")
    model.fusion.forward = lambda slots: torch.zeros(1, model.fusion.llm_dim)
    with pytest.raises(ValueError, match="returned embeddings of shape"):
        model(collator.training(mixed, [1.0] * len(mixed), slots=True))
