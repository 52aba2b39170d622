"""Prompts: wording, slots, answers, and what is cut when a prompt is too long."""

from __future__ import annotations

import dataclasses

import pytest

from ckf.core.errors import DataError
from ckf.prompts.encode import SLOT_TOKEN, PromptEncoder
from ckf.prompts.template import Literal, Placeholder, Slot, parse_template
from tests.conftest import TITLES, make_example


def text_of(encoder: PromptEncoder, ids: list[int]) -> str:
    parts, run = [], []
    for token in [*ids, None]:
        if token in (SLOT_TOKEN, None):
            parts.append(encoder.tokenizer.decode(run))
            run = []
        else:
            run.append(token)
    return "[slot]".join(parts)


def test_template_parts():
    assert parse_template("Liked: {history}.<user> Go:") == [
        Literal("Liked:"),
        Placeholder("history", " "),
        Literal("."),
        Slot("user"),
        Literal(" Go:"),
    ]


def test_prompt_reads_as_the_template_says(encoder):
    example = make_example("ctr", 2)
    liked = "; ".join(TITLES[i] for i in example.history)
    assert text_of(encoder, encoder.encode(example, slots=False).token_ids) == (
        f"Liked: {liked}. Next: {TITLES[example.item]}. Answer:"
    )
    prompt = encoder.encode(example, slots=True)
    assert f"Next: {TITLES[example.item]} [slot][slot]. Answer:" in text_of(encoder, prompt.token_ids)
    assert [(kind, item) for _, kind, item in prompt.slots] == [("user", 0), ("item", example.item)]


def test_text_prompts_hold_no_slot_in_any_task(encoder, mixed):
    for example in mixed:
        prompt = encoder.encode(example, slots=False)
        assert SLOT_TOKEN not in prompt.token_ids
        assert prompt.slots == []


def test_no_history_reads_as_such(encoder):
    example = dataclasses.replace(make_example("ctr"), history=make_example("ctr").history[:0])
    assert "Liked: nothing yet." in text_of(encoder, encoder.encode(example, slots=False).token_ids)


def test_rating_history_carries_the_ratings(encoder):
    assert "(4)" in text_of(encoder, encoder.encode(make_example("rating", 1), slots=False).token_ids)


def test_too_long_cuts_the_oldest_history_and_nothing_else(encoder, prompts):
    example = make_example("topk", 3)
    full = len(encoder.encode(example, slots=True).token_ids)
    longest = max(len(encoder.answer_ids("topk", TITLES[i])) for i in example.candidates)
    short = PromptEncoder(
        encoder.tokenizer, prompts, TITLES, ["1", "2", "3", "4", "5"], max_length_tokens=full + longest - 1
    )
    prompt = short.encode(example, slots=True)
    text = text_of(encoder, prompt.token_ids)
    assert prompt.history_cut == 1
    assert TITLES[example.history[0]] not in text
    assert TITLES[example.history[-1]] in text
    assert all(TITLES[i] in text for i in example.candidates)
    assert sum(kind == "item" for _, kind, _ in prompt.slots) == len(example.candidates)


def test_a_prompt_that_cannot_fit_is_refused_with_its_id(encoder, prompts):
    short = PromptEncoder(encoder.tokenizer, prompts, TITLES, ["1", "2", "3", "4", "5"], max_length_tokens=16)
    example = make_example("topk", 1)
    with pytest.raises(DataError, match=rf"{example.example_id}.*max_length_tokens"):
        short.encode(example, slots=True)


def test_a_rating_off_the_scale_is_refused(encoder):
    with pytest.raises(DataError, match=r"4.5 is not on the scale"):
        encoder.true_label(dataclasses.replace(make_example("rating"), label=4.5))


def test_title_pieces_are_the_same_in_prompt_and_answer(encoder):
    assert encoder.answer_ids("topk", TITLES[7]) == [*encoder.piece(f" {TITLES[7]}"), encoder.eos]
