"""One prefix and two branches: the values and gradients of two passes, for every family; nothing leaks either way."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ckf.model import recommender as recommender_module
from ckf.model.attention.masks import prefixed_allowed
from ckf.model.attention.prefix_cache import PrefixBank, RecordingCache
from ckf.model.backbone import checkpoint_activations
from ckf.prompts.collate import Collators
from ckf.prompts.encode import Prompt, PromptEncoder
from ckf.prompts.encoded_example import EncodedExample
from tests.conftest import LORA, TASKS, TITLES, make_example, make_model
from tests.unit.model.families import KINDS, WINDOWED, recommender

EXAMPLES = [make_example(task, number) for number in (0, 1, 6) for task in TASKS]  # histories of 1 to 3 titles


def gradients(model) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Gradients of adapters and of the fusion, zeros where there is none; they are cleared."""
    parts = (model.adapter_parameters(), model.fusion_parameters())
    found = tuple([torch.zeros_like(p) if p.grad is None else p.grad for p in part] for part in parts)
    model.zero_grad(set_to_none=True)
    return found


def two_passes(model, collator, weights):
    text, fused = (collator.training(EXAMPLES, weights, slots=slots) for slots in (False, True))
    of_text = model(text, learn_adapters=True, learn_fusion=False)
    of_slots = model(fused, learn_adapters=False, learn_fusion=True)
    loss = -(of_text * text.answer_weights).sum() - (of_slots * fused.answer_weights).sum()
    loss.backward()
    return of_text.detach(), of_slots.detach(), gradients(model)


def one_prefix(model, collator, weights):
    text, branch = collator.training.shared_prefix(EXAMPLES, weights)
    of_text, of_slots = model.forward_shared_prefix([text], [branch])
    loss = -(of_text * text.answer_weights).sum() - (of_slots * branch.answer_weights).sum()
    loss.backward()
    return of_text.detach(), of_slots.detach(), gradients(model)


def streams(model, collator, examples):
    """Log-probabilities of the text prompts' answers and of the branches'."""
    text, branch = collator.training.shared_prefix(examples, [1.0] * len(examples))
    return model.forward_shared_prefix([text], [branch])


def assert_equal(model, collator) -> None:
    weights = [0.1 + 0.05 * k for k in range(len(EXAMPLES))]
    text, slots, (adapters, fusion) = two_passes(model, collator, weights)
    text_too, slots_too, (adapters_too, fusion_too) = one_prefix(model, collator, weights)
    assert torch.equal(text_too, text)
    torch.testing.assert_close(slots_too, slots, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(adapters_too, adapters, strict=True):
        assert theirs.norm() > 1e-4
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(fusion_too, fusion, strict=True):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm().clamp(min=1e-2)
    assert sum(g.norm() for g in fusion) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_learns_what_two_passes_teach(kind, checkpoint, tables, collator):
    assert_equal(recommender(kind, checkpoint(kind), tables), collator)


@pytest.mark.parametrize("kind", WINDOWED)
def test_the_branch_lies_within_the_windows(kind, checkpoint, tables, collator, monkeypatch):
    model = recommender(kind, checkpoint(kind), tables)
    text, branch = collator.training.shared_prefix(EXAMPLES, [1.0] * len(EXAMPLES))
    with torch.no_grad():
        _, right = model.forward_shared_prefix([text], [branch])
        states = RecordingCache()
        model(text, prefix_cache=states)
        length = int(branch.prefix_lengths.max())
        monkeypatch.setattr(model.backbone.config, "sliding_window", 10_000)  # our masks read it
        wide = model(branch, prefix_cache=PrefixBank([states], length).of(None, length))
    assert (wide - right).abs().max() > 1e-3


@pytest.mark.parametrize("options", [{"tokens_per_slot": 3}, {"item_projection": "personal"}])
def test_wider_slots_and_other_maps(backbone_folder, encoder, prompts, tables, options):
    own = PromptEncoder(
        encoder.tokenizer, prompts, TITLES, encoder.rating_labels, tokens_per_slot=options.get("tokens_per_slot", 1)
    )
    model = make_model(backbone_folder, tables, fusion_options=options)
    assert_equal(model, Collators(own, TASKS, tables))


@pytest.mark.parametrize("slots", ["{text}<user><item>", "<user><item>{text}", "{text} Now <item>"])
def test_any_wording_is_exact_whatever_is_shared(model, encoder, prompts, tables, slots):
    """Slots at the very end (all of the text prompt is shared), at the start (nothing is), after words of their own."""
    wordings = {task: getattr(prompts, task) for task in TASKS}
    worded = {t: dataclasses.replace(w, slots=slots.replace("{text}", w.text)) for t, w in wordings.items()}
    own = PromptEncoder(encoder.tokenizer, dataclasses.replace(prompts, **worded), TITLES, encoder.rating_labels)
    assert_equal(model, Collators(own, TASKS, tables))


def test_checkpointed_layers_share_too(checkpoint, tables, collator):
    model = recommender("gemma3_text", checkpoint("gemma3_text"), tables)
    checkpoint_activations(model.backbone, model.routing)
    assert_equal(model, collator)


# --- nothing leaks


def test_the_slot_stream_teaches_no_adapter_and_the_text_no_fusion(model, collator):
    text, branch = collator.training.shared_prefix(EXAMPLES, [1.0] * len(EXAMPLES))
    list(model.forward_shared_prefix([text], [branch]))[1].sum().backward()
    adapters, fusion = gradients(model)
    assert all(not g.any() for g in adapters)
    assert all(g.any() for g in fusion)
    next(model.forward_shared_prefix([text], [branch])).sum().backward()
    adapters, fusion = gradients(model)
    assert all(g.any() for g in adapters)
    assert all(not g.any() for g in fusion)


def test_a_leak_through_the_prefix_would_be_seen(model, collator, monkeypatch):
    """The test above rests on the cut of keys and values: without it the adapters hear from the slots."""

    class Leaking(RecordingCache):
        def update(self, keys, values, layer_idx, *args):
            self._layers[layer_idx] = (keys, values)
            return keys, values

    monkeypatch.setattr(recommender_module, "RecordingCache", Leaking)
    list(streams(model, collator, EXAMPLES))[1].sum().backward()
    assert any(g.any() for g in gradients(model)[0])


def test_a_branch_does_not_see_the_other(model, collator):
    text, branch = collator.training.shared_prefix(EXAMPLES, [1.0] * len(EXAMPLES))
    with torch.no_grad():
        of_text, of_slots = model.forward_shared_prefix([text], [branch])
        other = branch.slots.users.roll(1, 0)
        branch.slots.users, kept = other, branch.slots.users
        text_too, slots_too = model.forward_shared_prefix([text], [branch])
        assert torch.equal(text_too, of_text)
        assert (slots_too - of_slots).abs().max() > 1e-4
        branch.slots.users = kept
        after = torch.arange(text.input_ids.shape[1]) >= branch.prefix_lengths[:, None]
        text.input_ids = torch.where(after, 7, text.input_ids)
        text_too, slots_too = model.forward_shared_prefix([text], [branch])
        assert (text_too - of_text).abs().max() > 1e-4
        torch.testing.assert_close(slots_too, of_slots, atol=0, rtol=0)
        before = torch.arange(text.input_ids.shape[1]) < branch.prefix_lengths[:, None] - 1
        text.input_ids = torch.where(before, 9, text.input_ids)
        assert (list(model.forward_shared_prefix([text], [branch]))[1] - of_slots).abs().max() > 1e-4


def test_rows_do_not_depend_on_their_batch(model, collator):
    with torch.no_grad():
        together = list(streams(model, collator, EXAMPLES))[1]
        apart = [list(streams(model, collator, [x]))[1] for x in EXAMPLES]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", *WINDOWED])
def test_branches_go_on_from_any_pass(kind, checkpoint, tables, collator):
    """Branches in another order and other batches than their texts, whose passes differ in length."""
    model = recommender(kind, checkpoint(kind), tables)
    rows = sorted(
        collator.training.encode(EXAMPLES, [1.0] * len(EXAMPLES), (False, True)), key=lambda row: row.length(False)
    )
    expected = {}
    with torch.no_grad():
        for row in rows:
            _, expected[id(row)] = model.forward_shared_prefix(
                [collator.training.batch([row], slots=False)], [collator.training.continuation([row])]
            )
        texts = [collator.training.batch(part, slots=False) for part in (rows[:5], rows[5:9], rows[9:])]
        orders = [[11, 0, 6, 3, 8], [1, 10, 2], [9, 4, 5, 7]]
        branches = [collator.training.continuation([rows[k] for k in order], order) for order in orders]
        found = list(model.forward_shared_prefix(texts, branches))[len(texts) :]
    assert len({text.input_ids.shape[1] for text in texts}) == 3
    for order, one in zip(orders, found, strict=True):
        wanted = torch.cat([expected[id(rows[k])] for k in order])
        torch.testing.assert_close(one, wanted, atol=1e-5, rtol=1e-5)


def test_dropout_leaves_the_text_stream_its_own_draw(backbone_folder, tables, collator):
    """The text stream is bit for bit what it is alone; the branch draws for its own tokens after it."""
    model = make_model(backbone_folder, tables, lora=dataclasses.replace(LORA, dropout=0.4)).train()
    text, branch = collator.training.shared_prefix(EXAMPLES, [1.0] * len(EXAMPLES))
    with torch.no_grad():
        torch.manual_seed(0)
        alone = model(text)
        torch.manual_seed(0)
        of_text, of_slots = model.forward_shared_prefix([text], [branch])
        torch.manual_seed(1)
        other_text, other_slots = model.forward_shared_prefix([text], [branch])
    assert torch.equal(of_text, alone)
    assert (other_text - of_text).abs().max() > 1e-3
    assert (other_slots - of_slots).abs().max() > 1e-3


def test_dropout_keeps_the_distribution_of_the_slot_stream(backbone_folder, tables, collator):
    """Over many draws the slot stream's log-probability has the mean that it has in a pass of its own."""
    model = make_model(backbone_folder, tables, lora=dataclasses.replace(LORA, dropout=0.4)).train()
    rows = [EXAMPLES[0]] * 400
    text, branch = collator.training.shared_prefix(rows, [1.0] * len(rows))
    fused = collator.training(rows, [1.0] * len(rows), slots=True)
    with torch.no_grad():
        torch.manual_seed(0)
        shared = list(model.forward_shared_prefix([text], [branch]))[1].view(400, -1).sum(1)
        apart = model(fused).view(400, -1).sum(1)
    error = (shared.var() / 400 + apart.var() / 400).sqrt()
    assert abs(shared.mean() - apart.mean()) < 4 * error
    assert shared.std() == pytest.approx(float(apart.std()), rel=0.25)


def test_masks_and_beginnings_by_hand():
    mask = prefixed_allowed(torch.tensor([1, 3]), 3, 2).int()
    assert ["".join(map(str, row)) for row in mask[0].tolist()] == ["10010", "10011"]
    assert ["".join(map(str, row)) for row in mask[1].tolist()] == ["11110", "11111"]
    assert shared([5, 6, 7, 8], [5, 6, -1, 7, 8]) == 2
    assert shared([5, 6], [5, 6, -1, -1]) == 2
    assert shared([5, 6], [5, 6]) == 1, "something is left to read the answer at"


def shared(text: list[int], fused: list[int]) -> int:
    return EncodedExample(EXAMPLES[0], 1.0, {False: Prompt(text, [], 0), True: Prompt(fused, [], 0)}, [3]).shared_tokens
