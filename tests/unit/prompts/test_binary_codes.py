"""Hashed codes: digits that near vectors share, in both spellings, and in the prompt."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ckf.cf.vectors.tables import VectorTables
from ckf.prompts.binary_codes import HashedCodes
from ckf.prompts.collate import Collators
from ckf.prompts.encode import PromptEncoder
from tests.conftest import CF_DIM, TASKS, TITLES, make_example


def codes_of(tables: VectorTables, *, dotted: bool = False, seed: int = 0, bits: int = 32) -> HashedCodes:
    return HashedCodes(tables, bits=bits, dotted=dotted, seed=seed)


def differing(a: str, b: str) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_both_spellings_say_the_same_bits(tables):
    plain, dotted = codes_of(tables), codes_of(tables, dotted=True)
    for user in range(1, 9):
        digits, decimal = plain.user(user), dotted.user(user)
        assert len(digits) == 32
        assert set(digits) <= {"0", "1"}
        assert [int(byte) for byte in decimal.split(".")] == [int(digits[i : i + 8], 2) for i in range(0, 32, 8)]


def test_near_vectors_share_digits_and_opposite_ones_none():
    """The expected share of differing signs is the angle over pi (Charikar 2002)."""
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, CF_DIM, generator=draw)
    rows = torch.stack([torch.zeros(CF_DIM), a, b, a + 0.01 * b, -a, -b, -(a + 0.01 * b)])  # their mean is zero
    codes = codes_of(VectorTables(rows, rows), bits=2000)
    assert differing(codes.user(1), codes.user(3)) < 20
    assert differing(codes.user(1), codes.user(4)) == 2000
    angle = float(torch.acos(torch.nn.functional.cosine_similarity(a, b, dim=0)) / torch.pi)
    assert differing(codes.user(1), codes.user(2)) / 2000 == pytest.approx(angle, abs=0.05)
    assert codes.user(1) == codes.item(1), "users and items share the hyperplanes"


def test_codes_come_from_the_seed_and_the_table(tables):
    assert codes_of(tables).user(3) == codes_of(tables).user(3)
    assert codes_of(tables).user(3) != codes_of(tables, seed=1).user(3)
    shuffled = codes_of(tables).of(tables.shuffled(7))
    assert [shuffled.user(u) for u in range(1, 9)] != [codes_of(tables).user(u) for u in range(1, 9)]


def test_a_cold_id_has_the_code_of_zeros(tables):
    assert codes_of(tables).user(0) == "0" * 32
    assert codes_of(tables, dotted=True).item(0) == "0.0.0.0"


def test_codes_stand_in_the_prompt_as_text(encoder, prompts, tables):
    wording = dataclasses.replace(
        prompts,
        ctr=dataclasses.replace(prompts.ctr, slots="{history} {candidate} (user {user_code}, item {item_code})?"),
        topk=dataclasses.replace(prompts.topk, slots="{history} {candidates} (items {item_code})?"),
    )
    own = PromptEncoder(encoder.tokenizer, wording, TITLES, encoder.rating_labels)
    codes = codes_of(tables, dotted=True)
    example = make_example("ctr", 2)
    prompt = own.encode(example, slots=True, codes=codes)
    text = own.tokenizer.decode(prompt.token_ids)
    assert text.endswith(f"(user {codes.user(example.user)}, item {codes.item(example.item)})?")
    assert prompt.slots == []
    ranked = make_example("topk", 1)
    text = own.tokenizer.decode(own.encode(ranked, slots=True, codes=codes).token_ids)
    assert text.endswith(f"(items {'; '.join(codes.item(i) for i in ranked.candidates)})?")
    batch = Collators(own, TASKS, tables, codes).training([example], [1.0], slots=True)
    assert batch.slots is None
    assert codes.user(example.user) not in own.tokenizer.decode(own.encode(example, slots=False).token_ids)


def test_collator_with_other_tables_writes_other_codes(encoder, prompts, tables):
    wording = dataclasses.replace(prompts, ctr=dataclasses.replace(prompts.ctr, slots="{candidate} {user_code}"))
    own = PromptEncoder(encoder.tokenizer, wording, TITLES, encoder.rating_labels)
    collator = Collators(own, TASKS, tables, codes_of(tables))
    one, other = (c.training([make_example("ctr")], [1.0], slots=True).input_ids
                  for c in (collator, collator.with_tables(tables.shuffled(7))))  # fmt: skip
    assert one.shape != other.shape or not torch.equal(one, other)
