"""A planted interaction that user and item biases cannot carry: who learns it, and who cannot.

Users and items have a sign each, and the answer is Yes where the signs agree, so every user and every
item says Yes half of the time. The backbone is a random Llama, frozen; prompts tell nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ckf.cf.vectors.tables import VectorTables
from ckf.config.schema import PromptsConfig
from ckf.data.example_table import Example
from ckf.metrics import auc
from ckf.prompts.binary_codes import HashedCodes
from ckf.prompts.collate import Collators
from ckf.prompts.encode import PromptEncoder
from tests.conftest import CF_DIM, TASKS, TITLES, make_model

USERS, ITEMS = 41, len(TITLES) - 1
WORDING = {
    "late": "Next: it<user><item>. Answer:",
    "pair": "Next: it<user><item><pair>. Answer:",
    "soft": "<soft>Next: it. Answer:",
    "codes": "Next: it {user_code} {item_code}. Answer:",
    "text": "Next: it. Answer:",
}


@pytest.fixture(scope="module")
def world() -> VectorTables:
    """Vectors whose first dimension is the sign; row u (from 1) is positive for odd u."""
    draw = torch.Generator().manual_seed(0)
    tables = [0.3 * torch.randn(n + 1, CF_DIM, generator=draw) for n in (USERS, ITEMS)]
    for table in tables:
        table[:, 0] = torch.tensor([1.0 if row % 2 else -1.0 for row in range(len(table))])
        table[0] = 0.0
    return VectorTables(*tables)


def example(user: int, item: int) -> Example:
    agree = user % 2 == item % 2
    liked = [i for i in range(1, ITEMS + 1) if i % 2 == user % 2][:4]
    return Example(
        example_id=f"ctr/train/{user}-{item}", task="ctr", user=user, item=item, label=float(agree),
        candidates=np.empty(0, np.int64), position=-1, history=np.asarray(liked),
        history_ratings=np.empty(0, np.float32), review=None,
    )  # fmt: skip


TRAIN = [example(u, i) for u in range(1, 31) for i in range(1, ITEMS + 1)]
TEST = [example(u, i) for u in range(31, USERS + 1) for i in range(1, ITEMS + 1)]


def learned(folder, encoder, prompts, world, kind, wording, *, adapters=False, steps=150, **options) -> float:
    """AUC on users that training never met, after ``steps`` of Adam on the fusion (and the adapters)."""
    ctr = dataclasses.replace(prompts.ctr, slots=WORDING[wording], text=WORDING["text"])
    own: PromptsConfig = dataclasses.replace(prompts, ctr=ctr)
    tokens = options.get("tokens_per_slot", 1)
    texts = PromptEncoder(encoder.tokenizer, own, TITLES, encoder.rating_labels, tokens_per_slot=tokens)
    codes = HashedCodes(world, bits=8, dotted=False, seed=0) if wording == "codes" else None
    tables = world.shuffled(0) if kind == "random" else world
    collator = Collators(texts, TASKS, tables, codes)
    slots = ("user", "item", "pair") if wording == "pair" else ("user", "item")
    model = make_model(folder, tables, kind, fusion_options={"slots": slots, **options})
    parameters = model.fusion_parameters() + (model.adapter_parameters() if adapters else [])
    optimizer = torch.optim.Adam(parameters, lr=0.01) if parameters else None
    fused = wording != "text"
    draw = np.random.default_rng(0)
    for _ in range(steps if optimizer else 0):
        batch = collator.training([TRAIN[i] for i in draw.integers(0, len(TRAIN), 64)], [1 / 64] * 64, slots=fused)
        optimizer.zero_grad()
        (-(model(batch, learn_adapters=adapters) * batch.answer_weights).sum()).backward()
        optimizer.step()
    with torch.no_grad():
        batch, counts = collator.scoring(TEST, slots=fused)
        totals = torch.zeros(sum(counts)).index_add_(0, batch.answer_index, model.eval()(batch)).view(-1, 2)
    return auc(np.asarray([x.label for x in TEST]), (totals[:, 1] - totals[:, 0]).numpy())


def test_neither_users_nor_items_tell_anything():
    for key in ("user", "item"):
        sides = {getattr(x, key) for x in TRAIN}
        rates = [np.mean([x.label for x in TRAIN if getattr(x, key) == side]) for side in sides]
        assert rates == [0.5] * len(sides)


@pytest.mark.parametrize("kind", ["linear", "mlp", "meta", "meta_attention"])
def test_with_a_pair_slot_every_map_learns_it(backbone_folder, encoder, prompts, world, kind):
    assert learned(backbone_folder, encoder, prompts, world, kind, "pair") > 0.95


@pytest.mark.parametrize("kind", ["linear", "mlp", "meta", "meta_attention"])
def test_without_a_pair_slot_a_frozen_backbone_does_not_multiply_user_and_item(
    backbone_folder, encoder, prompts, world, kind
):
    """The same budget with separate slots: what user and item say together is not carried (an XOR of two signs)."""
    assert learned(backbone_folder, encoder, prompts, world, kind, "late") < 0.7  # 0.50 to 0.54 where this was written


@pytest.mark.parametrize("kind", ["linear", "mlp", "meta", "meta_attention"])
def test_with_a_personal_item_side_every_map_learns_it(backbone_folder, encoder, prompts, world, kind):
    assert learned(backbone_folder, encoder, prompts, world, kind, "late", item_projection="personal", steps=200) > 0.9


def test_text_alone_cannot_whatever_the_adapters_learn(backbone_folder, encoder, prompts, world):
    assert learned(backbone_folder, encoder, prompts, world, "none", "text", adapters=True) == 0.5


def test_soft_prompts_cannot_since_they_know_no_ids(backbone_folder, encoder, prompts, world):
    assert learned(backbone_folder, encoder, prompts, world, "soft_prompt", "soft", adapters=True) == 0.5


def test_the_control_cannot(backbone_folder, encoder, prompts, world):
    assert abs(learned(backbone_folder, encoder, prompts, world, "random", "pair") - 0.5) < 0.2


def test_codes_are_read_by_adapters_alone(backbone_folder, encoder, prompts, world):
    """The digits are text: a model whose adapters learn reads them; one that trains nothing does not."""
    assert learned(backbone_folder, encoder, prompts, world, "none", "codes", adapters=True, steps=300) > 0.9
    assert learned(backbone_folder, encoder, prompts, world, "none", "codes", adapters=False) < 0.8
