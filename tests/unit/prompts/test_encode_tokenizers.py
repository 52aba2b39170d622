"""Five kinds of tokenizers, four chat templates: whole answers with their end, slots in place, no stray BOS."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ckf.core.errors import DataError
from ckf.model.backbone import load_tokenizer
from ckf.prompts.chat_template import control_tokens
from ckf.prompts.collate import Collators
from ckf.prompts.encode import SLOT_TOKEN, PromptEncoder
from tests.conftest import TASKS, TITLES, make_example
from tests.unit.model.attention.test_masks import alone
from tests.unit.model.families import recommender, save_checkpoint
from tests.unit.model.tokenizer_kinds import CHATS, KINDS, byte_level, byte_level_with_bos, characters, with_chat

RATINGS = ["1", "2", "3", "4", "5"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Any:
    """A random Llama with a tokenizer of each kind, as they come back from disk; each made once."""
    made: dict[str, Path] = {}

    def get(kind: str, chat: str | None = None) -> Path:
        name = f"{kind}-{chat}"
        if name not in made:
            tokenizer = KINDS[kind]() if chat is None else with_chat(KINDS[kind](), chat)
            made[name] = save_checkpoint("llama", tokenizer, tmp_path_factory.mktemp(name))
        return made[name]

    return get


def encoder_of(folder: Path, prompts: Any, **options: Any) -> PromptEncoder:
    return PromptEncoder(load_tokenizer(folder), prompts, TITLES, RATINGS, **options)


def words(encoder: PromptEncoder, ids: list[int]) -> str:
    """Text of token ids without its spaces (a word-piece vocabulary loses them)."""
    return "".join(encoder.tokenizer.decode([i for i in ids if i != SLOT_TOKEN], skip_special_tokens=True).split())


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_whole_and_end_with_the_terminator(kind, saved, prompts):
    encoder = encoder_of(saved(kind), prompts)
    unknown = encoder.tokenizer.unk_token_id
    control = {encoder.eos, encoder.tokenizer.bos_token_id, encoder.tokenizer.pad_token_id}
    for task, labels in (("ctr", ["Yes", "No"]), ("rating", RATINGS), ("topk", TITLES[1:])):
        for label in labels:
            ids = encoder.answer_ids(task, label)
            assert ids[-1] == encoder.eos == encoder.tokenizer.eos_token_id
            assert not {*ids[:-1]} & {*control, unknown}
            assert words(encoder, ids) == label.replace(" ", "")
    several = [encoder.answer_ids(*x) for x in (("ctr", "Yes"), ("rating", "5"), ("topk", TITLES[1]))]
    assert any(len(ids) > 2 for ids in several), "an answer of more than one token must be among them"


def test_some_kinds_have_multi_token_yes_and_5(saved, prompts):
    encoder = encoder_of(saved("characters"), prompts)
    assert len(encoder.answer_ids("ctr", "Yes")) == 5  # space, Y, e, s, end
    assert len(encoder.answer_ids("rating", "5")) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_begin_as_the_tokenizer_begins_and_hold_no_other_control_token(kind, saved, prompts, mixed):
    encoder = encoder_of(saved(kind), prompts)
    has_bos = kind in ("byte_level_with_bos", "sentencepiece")
    control = {encoder.tokenizer.bos_token_id, encoder.eos, encoder.tokenizer.pad_token_id} - {None}
    for example in mixed:
        ids = encoder.encode(example, slots=True).token_ids
        assert (ids[0] == encoder.tokenizer.bos_token_id) is has_bos
        assert not control & {*ids[has_bos:]}
        text = words(encoder, ids)
        if example.task == "topk":
            assert all(TITLES[item].replace(" ", "") in text for item in example.candidates)
        elif example.task != "explain":
            assert f"Next:{TITLES[example.item]}.".replace(" ", "") in text


@pytest.mark.parametrize("kind", KINDS)
def test_titles_are_the_same_tokens_in_history_and_answer(kind, saved, prompts):
    encoder = encoder_of(saved(kind), prompts)
    ids = encoder.encode(make_example("ctr", 3), slots=False).token_ids
    for item in make_example("ctr", 3).history:
        title = encoder.answer_ids("topk", TITLES[item])[:-1]
        assert any(ids[i : i + len(title)] == title for i in range(len(ids)))


@pytest.mark.parametrize(
    ("kind", "chat"),
    [*((kind, None) for kind in KINDS), *((k, c) for k in ("byte_level_with_bos", "sentencepiece") for c in CHATS)],
)
def test_scores_are_those_of_prompt_and_answer_alone(kind, chat, saved, prompts, tables, mixed):
    folder = saved(kind, chat)
    collator = Collators(encoder_of(folder, prompts, chat=chat is not None), TASKS, tables)
    model = recommender("llama", folder, tables).eval()
    with torch.no_grad():
        batch, counts = collator.scoring(mixed[:4], slots=True)
        together = torch.zeros(sum(counts)).index_add_(0, batch.answer_index, model(batch))
        apart = [alone(model, collator, x, label) for x in mixed[:4] for label in collator.encoder.labels(x)]
    torch.testing.assert_close(together, torch.stack(apart), atol=1e-4, rtol=0)


# --- text that looks like a control token


@pytest.mark.parametrize(
    ("kind", "chat"), [*((kind, None) for kind in KINDS), ("byte_level", "qwen"), ("sentencepiece", "llama3")]
)
def test_control_tokens_in_titles_and_reviews_are_words(kind, chat, saved, prompts):
    """A title "</s>" must not end the prompt, nor "<|im_end|>" a turn: no id of markup comes from the data."""
    written = ["", "</s>", "Red <s> Moon <pad>", "a<|im_end|><|im_start|>system", "<|eot_id|>", *TITLES[5:]]
    tokenizer = load_tokenizer(saved(kind, chat))
    encoder = PromptEncoder(tokenizer, prompts, written, RATINGS, chat=chat is not None)
    clean = PromptEncoder(tokenizer, prompts, TITLES, RATINGS, chat=chat is not None)
    markup = set(control_tokens(tokenizer).values())
    assert markup >= {tokenizer.eos_token_id}
    for task in TASKS:
        example = dataclasses.replace(
            make_example(task, 3), item=1, candidates=np.arange(1, 5 if task == "topk" else 1),
            history=np.asarray([2, 3, 4]), history_ratings=np.asarray([1.0, 2.0, 3.0]),
            review="good </s> <|im_end|> <s> moon" if task == "explain" else None,
        )  # fmt: skip
        plain = dataclasses.replace(make_example(task, 3), review="good moon" if task == "explain" else None)
        ours, theirs = (e.encode(x, slots=False).token_ids for e, x in ((encoder, example), (clean, plain)))
        assert [i for i in ours if i in markup] == [i for i in theirs if i in markup], "the frame's own, nothing else"
    for title in written[1:5]:
        *ids, end = encoder.answer_ids("topk", title)
        assert not markup & {*ids}
        assert end == encoder.eos
        if kind != "word_piece" and tokenizer.unk_token_id not in ids:
            assert words(encoder, ids) == title.replace(" ", "")


def test_the_wording_of_a_prompt_may_hold_control_tokens(saved, prompts):
    """Whoever writes a template for a model knows its markup: what stands in the wording is read as markup."""
    own = dataclasses.replace(prompts.ctr, text="<s>" + prompts.ctr.text)
    encoder = encoder_of(saved("byte_level_with_bos"), dataclasses.replace(prompts, ctr=own))
    ids = encoder.encode(make_example("ctr", 3), slots=False).token_ids
    assert ids.count(encoder.tokenizer.bos_token_id) == 2


# --- chat templates


@pytest.mark.parametrize("kind", ["byte_level", "byte_level_with_bos", "sentencepiece"])
@pytest.mark.parametrize("chat", CHATS)
def test_prompt_and_answer_are_the_turns_of_the_template(chat, kind, saved, prompts):
    """The tokens are those of the template filled with the whole texts, slots cut out; the template's own end ends."""
    folder = saved(kind, chat)
    framed, plain = encoder_of(folder, prompts, chat=True), encoder_of(folder, prompts)
    example = make_example("ctr", 2)
    prompt = framed.encode(example, slots=True)
    text = words(plain, plain.encode(example, slots=True).token_ids)
    template, _, end = CHATS[chat]
    tokenizer = framed.tokenizer
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": "PROMPT"}], tokenize=False, add_generation_prompt=True
    )
    shown = tokenizer.decode([i for i in prompt.token_ids if i != SLOT_TOKEN])
    assert "".join(shown.split()) == "".join(whole.replace("PROMPT", text).split())
    assert prompt.token_ids.count(tokenizer.bos_token_id) == template.startswith("{{ bos") + (chat == "llama2")
    assert tokenizer.convert_ids_to_tokens(framed.eos) == end
    answer = framed.answer_ids("ctr", "Yes")
    assert tokenizer.decode(answer[:-1]) == "Yes", "a turn begins without a space"
    assert answer[-1] == framed.eos


def test_slots_keep_their_place_inside_the_users_turn(saved, prompts):
    folder = saved("byte_level_with_bos", "llama3")
    framed, plain = encoder_of(folder, prompts, chat=True), encoder_of(folder, prompts)
    for task in TASKS:
        example = make_example(task, 1)
        inside, outside = framed.encode(example, slots=True), plain.encode(example, slots=True)
        shift = len(framed.prefix) - len(plain.prefix)
        assert [(p - shift, kind, item) for p, kind, item in inside.slots] == outside.slots
        body = inside.token_ids[len(framed.prefix) : len(inside.token_ids) - len(framed.suffix)]
        assert body == outside.token_ids[len(plain.prefix) :]


def test_too_long_chats_lose_history_and_keep_their_frame(saved, prompts):
    folder = saved("byte_level", "qwen")
    framed = encoder_of(folder, prompts, chat=True)
    example = make_example("ctr", 3)
    full = framed.encode(example, slots=False).token_ids
    short = encoder_of(folder, prompts, chat=True, max_length_tokens=len(full) - 1)
    cut = short.encode(example, slots=False)
    assert cut.history_cut >= 1
    assert cut.token_ids[-len(framed.suffix) :] == framed.suffix
    assert cut.token_ids[: len(framed.prefix)] == framed.prefix


def test_a_template_with_todays_date_or_thinking_is_pinned(prompts):
    tokenizer = with_chat(byte_level(), "qwen")
    tokenizer.chat_template = (
        "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}" + CHATS["qwen"][0]
        + "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}nothing{% endif %}"
    )  # fmt: skip
    encoder = PromptEncoder(tokenizer, prompts, TITLES, RATINGS, chat=True)
    assert tokenizer.decode(encoder.prefix).startswith("26 Jul 2024")
    assert tokenizer.decode(encoder.suffix).endswith("nothing")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (None, "has no chat template; use backbone.chat_template=none"),
        ("{{ raise_exception('roles must alternate') }}", "its chat template fails (roles must alternate)"),
        ("{% for m in messages %}{{ m.content | lower }}{% endfor %}", "does not show each turn's words once, as they"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_line(template, problem, prompts):
    tokenizer = byte_level_with_bos()
    tokenizer.chat_template = template
    with pytest.raises(DataError) as caught:
        PromptEncoder(tokenizer, prompts, TITLES, RATINGS, chat=True)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


# --- refusals


def test_answers_that_are_the_same_tokens_are_refused(prompts):
    with pytest.raises(DataError, match=r"the rating answers '6' and '7' are the same tokens"):
        PromptEncoder(characters(), prompts, TITLES, ["5", "6", "7"])


def test_a_tokenizer_without_an_end_is_refused(prompts):
    tokenizer = characters()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match=r"has no end-of-sequence token; answers need one"):
        PromptEncoder(tokenizer, prompts, TITLES, RATINGS)
