"""Lists whose candidates are asked one by one: read at each question mark, Yes or No, ordered by Yes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ckf.cf.vectors.tables import VectorTables
from ckf.config.compose import compose
from ckf.core.errors import ConfigError, DataError
from ckf.data.example_table import Example
from ckf.prompts.collate import Collators
from ckf.prompts.encode import SLOT_TOKEN, PromptEncoder
from ckf.prompts.template import Literal, Placeholder, Slot, parse_template
from tests.conftest import CF_DIM, TASKS, TITLES, make_example, make_model
from tests.unit.model.tokenizer_kinds import characters

WORDING = "Liked: {history}. Choose<user>: {candidates<item><pair>?}."
SLOTS = {"slots": ("user", "item", "pair")}


@pytest.fixture(scope="module")
def asked(encoder, prompts, tables) -> Collators:
    return Collators(worded(encoder, prompts, WORDING), TASKS, tables)


def worded(encoder, prompts, slots: str) -> PromptEncoder:
    topk = dataclasses.replace(prompts.topk, slots=slots)
    return PromptEncoder(
        encoder.tokenizer, dataclasses.replace(prompts, topk=topk), TITLES, encoder.rating_labels
    )  # fmt: skip


def test_template_parts():
    assert parse_template("Of<user>: {<item>candidates<pair>?}.") == [
        Literal("Of"),
        Slot("user"),
        Literal(":"),
        Placeholder("candidates", " ", ("item",), ("pair",), pointwise=True),
        Literal("."),
    ]


def test_each_candidate_has_its_slots_and_its_question_mark(asked):
    example = make_example("topk", 2)
    prompt = asked.encoder.encode(example, slots=True)
    mark = asked.encoder.piece("?")[-1]
    assert [prompt.token_ids[place] for place in prompt.yes_no_positions] == [mark] * len(example.candidates)
    wanted = [("user", 0)] + [(kind, item) for item in example.candidates for kind in ("item", "pair")]
    assert [(kind, item) for _, kind, item in prompt.slots] == wanted
    for place, item in zip(prompt.yes_no_positions, example.candidates, strict=True):
        before = [token for token in prompt.token_ids[:place] if token != SLOT_TOKEN]
        title = asked.encoder.piece(f" {TITLES[item]}")
        assert before[-len(title) :] == title
        assert prompt.token_ids[place - 2 : place] == [SLOT_TOKEN, SLOT_TOKEN]
    assert not asked.encoder.encode(example, slots=False).yes_no_positions
    assert not asked.encoder.encode(make_example("ctr"), slots=True).yes_no_positions


def test_training_reads_yes_after_the_target_and_no_after_the_others(asked):
    examples = [make_example("topk", 1), make_example("ctr", 1)]
    batch = asked.training(examples, [0.5, 2.0], slots=True)
    mine = batch.answer_rows == 0
    no, yes = asked.encoder.no_yes_tokens
    assert batch.answer_targets[mine].tolist() == [no, no, no, yes], "the target is the last of four"
    tokens = len(asked.encoder.answer_ids("topk", TITLES[examples[0].item]))
    assert batch.answer_weights[mine].tolist() == pytest.approx([0.5 * tokens / 4] * 4), "the weight of the title's"
    assert (batch.answer_weights[~mine] == 2.0).all()


def test_a_candidates_score_is_that_of_yes_at_its_mark(asked, backbone_folder, tables):
    model = make_model(backbone_folder, tables, "linear", fusion_options=SLOTS).eval()
    examples = [make_example("topk", 1), make_example("ctr", 1), make_example("topk", 4)]
    with torch.no_grad():
        batch, counts = asked.scoring(examples, slots=True)
        together = torch.zeros(sum(counts)).index_add_(0, batch.answer_index, model(batch)).split(counts)
        assert counts == [4, 2, 4]
        for example, found in zip(examples, together, strict=True):
            if example.task != "topk":
                continue
            alone = asked.training([example], [1.0], slots=True)
            alone.answer_targets[:] = asked.encoder.no_yes_tokens[1]
            torch.testing.assert_close(found, model(alone), atol=1e-5, rtol=1e-5)


def test_a_shared_prefix_gives_the_same_losses(asked, backbone_folder, tables):
    model = make_model(backbone_folder, tables, "linear", fusion_options=SLOTS).eval()
    examples = [make_example("topk", 1), make_example("ctr", 1)]
    with torch.no_grad():
        text, branch = asked.training.shared_prefix(examples, [1.0, 1.0])
        assert int(branch.prefix_lengths[0]) > 5
        of_text, of_slots = model.forward_shared_prefix([text], [branch])
        torch.testing.assert_close(of_text, model(asked.training(examples, [1.0, 1.0], slots=False)), atol=1e-5, rtol=0)
        torch.testing.assert_close(of_slots, model(asked.training(examples, [1.0, 1.0], slots=True)), atol=1e-5, rtol=0)


def world() -> tuple[VectorTables, list[Example], list[Example]]:
    """Lists of four in which the target alone has the user's sign; users of the test are met in no training."""
    draw = np.random.default_rng(0)
    tables = [0.3 * torch.randn(n, CF_DIM, generator=torch.Generator().manual_seed(0)) for n in (61, len(TITLES))]
    for table in tables:
        table[:, 0] = torch.tensor([1.0 if row % 2 else -1.0 for row in range(len(table))])
        table[0] = 0.0
    made = []
    for number in range(600):
        user = 1 + number % 60
        same, other = ([i for i in range(1, len(TITLES)) if (i + user) % 2 == odd] for odd in (0, 1))
        listed = draw.permutation([draw.choice(same), *draw.choice(other, 3, replace=False)])
        position = next(n for n, item in enumerate(listed) if (item + user) % 2 == 0)
        example = dataclasses.replace(make_example("topk", number), user=user, history=np.empty(0, np.int64))
        made.append(
            dataclasses.replace(example, candidates=listed, position=position, item=int(listed[position]), label=1.0)
        )
    return VectorTables(*tables), [x for x in made if x.user <= 40], [x for x in made if x.user > 40]


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_backbone_that_cannot_copy_a_title_orders_the_list(asked, backbone_folder, shuffled):
    """A random Llama, which cannot find a title of the list again, reads what the slots say."""
    tables, train, test = world()
    tables = tables.shuffled(0) if shuffled else tables
    collator = asked.with_tables(tables)
    model = make_model(backbone_folder, tables, "linear", fusion_options=SLOTS)
    parameters = [*model.fusion_parameters(), *model.adapter_parameters()]
    optimizer, draw = torch.optim.Adam(parameters, lr=0.01), np.random.default_rng(0)
    for _ in range(60):
        batch = collator.training([train[i] for i in draw.integers(0, len(train), 32)], [1 / 32] * 32, slots=True)
        optimizer.zero_grad()
        (-(model(batch) * batch.answer_weights).sum()).backward()
        optimizer.step()
    with torch.no_grad():
        batch, counts = collator.scoring(test, slots=True)
        scores = torch.zeros(sum(counts)).index_add_(0, batch.answer_index, model.eval()(batch)).view(-1, 4)
    hits = np.mean(scores.argmax(dim=1).numpy() == [x.position for x in test])
    assert hits < 0.6 if shuffled else hits > 0.9


# --- bad input


def test_answers_that_begin_alike_cannot_be_read_at_one_place(prompts):
    topk = dataclasses.replace(prompts.topk, slots=WORDING)
    with pytest.raises(DataError, match=r"Yes and No begin with the same token, so candidates cannot be asked one by"):
        PromptEncoder(characters(), dataclasses.replace(prompts, topk=topk), TITLES, ["1", "2"])
    PromptEncoder(characters(), prompts, TITLES, ["1", "2"])


@pytest.mark.parametrize(
    ("slots", "problem"),
    [
        ("{history?} {candidates}<user>", "prompts.topk.slots: {history} takes no question mark inside; only {cand"),
        ("{history<pair>} {candidates}", "prompts.topk.slots: {history} takes no slots inside; only {candidates} does"),
        ("{history} {candidates<pear>?}", "prompts.topk.slots: unknown slot <pear>; allowed: <user>, <item>, <pair>"),
    ],
)
def test_a_wording_that_asks_what_cannot_be_asked_is_refused(slots, problem):
    with pytest.raises(ConfigError) as caught:
        compose([f"prompts.topk.slots='{slots}'"])
    assert any(line.startswith(problem) for line in str(caught.value).splitlines()), str(caught.value).splitlines()
