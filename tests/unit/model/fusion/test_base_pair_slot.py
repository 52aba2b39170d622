"""The pair slot: what it is made of, its scale, and where it stands in a prompt."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from ckf.cf.data import CFBatch, CFData
from ckf.cf.models.mf import MFModel
from ckf.config.compose import compose
from ckf.config.schema import LinearFusionConfig, MFConfig
from ckf.model.build import build_fusion, slot_kinds
from ckf.prompts.collate import Collators
from ckf.prompts.encode import PromptEncoder
from tests.conftest import CF_DIM, TASKS, TITLES, make_fusion
from tests.worlds import small_source, write_world


def test_pair_features_are_product_difference_and_the_cf_models_logit(tables):
    for bias in (True, False):
        fusion = make_fusion("linear", 16, slots=("pair",), pair_bias=bias)
        users, items = tables.users[1:4], tables.items[2:5]
        features = fusion.pair_vectors(users, items)
        torch.testing.assert_close(features[:, :CF_DIM], users * items)
        torch.testing.assert_close(features[:, CF_DIM:-1], users - items)
        logit = (users * items).sum(dim=1)
        if bias:
            logit = (users[:, :-1] * items[:, :-1]).sum(dim=1) + users[:, -1] + items[:, -1]
        torch.testing.assert_close(features[:, -1], logit)


def test_the_pair_logit_is_matrix_factorisations_own(tmp_path):
    """From the exported tables to the model's own logit, but for the constant."""
    dataset, _ = write_world(tmp_path, small_source())
    data = CFData.load(dataset)
    mf = MFModel(data, MFConfig(name="mf", dim=4, epochs=3), 0)
    users, items = (torch.from_numpy(table) for table in mf.vectors())
    u, v = data.val.user[:50], data.val.item[:50]
    fusion = build_fusion(LinearFusionConfig(name="linear"), users.shape[1], 8, 1.0, slots=("pair",), pair_bias=True)
    logit = fusion.pair_vectors(users[u], items[v])[:, -1].numpy()
    expected = mf.logit(CFBatch.of_pairs(u, v)) - mf.additive.mean
    known = np.isin(u, data.train.user) & np.isin(v, data.train.item)
    assert known.sum() > 10
    np.testing.assert_allclose(logit[known], expected[known], atol=1e-4)


def test_pair_features_are_standardised_over_pairs(tables):
    fusion = make_fusion("linear", 16, slots=("pair",))
    fusion.fit_normalization(tables)
    known_users, known_items = tables.users[1:], tables.items[1:]
    users, items = known_users.repeat_interleave(len(known_items), 0), known_items.repeat(len(known_users), 1)
    features = fusion.pair_vectors(users, items)
    assert features.mean(dim=0).abs().max() < 0.1
    assert (features.std(dim=0) - 1).abs().max() < 0.1
    assert torch.isfinite(fusion.pair_vectors(torch.zeros(1, CF_DIM), torch.zeros(1, CF_DIM))).all()


def test_what_a_template_holds_is_what_is_filled(encoder, prompts, tables, mixed):
    """user, item and pair slots in their own places; topk has a pair slot for each candidate, before its title."""
    wording = dataclasses.replace(
        prompts,
        ctr=dataclasses.replace(prompts.ctr, slots="{history}<pair> {candidate}<user><item>"),
        topk=dataclasses.replace(prompts.topk, slots="{history}: {<pair>candidates}<user>"),
    )
    own = PromptEncoder(encoder.tokenizer, wording, TITLES, encoder.rating_labels)
    examples = [x for x in mixed if x.task in ("ctr", "topk")]
    slots = Collators(own, TASKS, tables).training(examples, [1.0] * len(examples), slots=True).slots
    count = len(examples[1].candidates)
    assert [x.task for x in examples] == ["ctr", "topk", "ctr", "topk"]
    assert slots.user_rows.tolist() == [0, 1, 2, 3]
    assert slots.item_rows.tolist() == [0, 2]
    assert slots.pair_rows.tolist() == [0, *[1] * count, 2, *[3] * count]
    torch.testing.assert_close(slots.pair_items[1 : 1 + count], tables.items[torch.from_numpy(examples[1].candidates)])
    prompt = own.encode(examples[1], slots=True)
    for (start, kind, item), nth in zip(prompt.slots, examples[1].candidates, strict=False):
        assert (kind, item) == ("pair", nth)
        title = own.piece(f" {TITLES[nth]}")
        assert prompt.token_ids[start + 1 : start + 1 + len(title)] == title
    fusion = make_fusion("meta", 16, slots=("user", "item", "pair"))
    assert fusion(slots).shape == (len(slots.rows), 16)


def test_no_map_is_built_for_a_slot_that_no_template_holds():
    assert set(make_fusion("meta", 16, slots=("user", "pair")).maps) == {"user", "pair"}
    exp, _ = compose(["prompts=slots_pair", "tasks=[ctr,topk]"])
    assert slot_kinds(exp, ["ctr", "topk"]) == ("user", "item", "pair")
    assert slot_kinds(compose([])[0], ["ctr"]) == ("user", "item")
