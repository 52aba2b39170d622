"""Writing: greedy is the argmax of ordinary forward passes, samples hang on their name alone, a trie binds."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from ckf.data.example_table import ExampleTable
from ckf.eval import protocols
from ckf.eval.generate import Trie, constrained, generate, greedy, sampled
from ckf.eval.protocols import answered_lists, slot_match
from ckf.model.backbone import vocabulary_logits
from ckf.tasks.measure import compute_metrics
from tests.conftest import TASKS, make_example
from tests.unit.model.families import KINDS, recommender

CPU = torch.device("cpu")
EXAMPLES = [make_example("topk", number) for number in (0, 3, 5)] + [make_example("ctr", 2)]


def written_slowly(model, collator, example, tokens: int) -> list[int]:
    """Greedy, one whole forward pass a token, without a cache and without padding."""
    ids: list[int] = []
    while len(ids) < tokens and (not ids or ids[-1] != collator.encoder.eos):
        batch, lengths = collator.generation([example], slots=True)
        batch.input_ids = torch.cat([batch.input_ids[:, : int(lengths)], torch.tensor([ids], dtype=torch.long)], dim=1)
        ids.append(int(vocabulary_logits(model.backbone, model.hidden(batch)[0, -1:]).argmax()))
    return ids


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_argmax_of_whole_passes(kind, checkpoint, tables, collator):
    """Prompts of different lengths in one batch, windows far shorter than the prompts."""
    model = recommender(kind, checkpoint(kind), tables).eval()
    found = generate(model, collator, EXAMPLES, greedy, slots=True, tokens=6, device=CPU)
    with torch.no_grad():
        for example, ids in zip(EXAMPLES, found, strict=True):
            expected = written_slowly(model, collator, example, 6)
            assert ids[: len(expected)] == expected


def test_a_sample_hangs_on_seed_and_example_alone(model, collator):
    model.eval()
    names = [x.example_id + str(place) for place, x in enumerate(EXAMPLES)]

    def draw(rows: list[int], seed: int) -> list[list[int]]:
        choose = sampled([names[row] for row in rows], seed, 8)
        return generate(model, collator, [EXAMPLES[r] for r in rows], choose, slots=True, tokens=8, device=CPU)

    together = draw([0, 1, 2, 3], 0)
    assert draw([2], 0)[0] == together[2]
    assert draw([3, 0], 0) == [together[3], together[0]]
    assert draw([0, 1, 2, 3], 1) != together


def test_samples_follow_the_distribution(model, collator):
    model.eval()
    example, n = EXAMPLES[0], 4000
    names = [f"draw {number}" for number in range(n)]
    batch, lengths = collator.generation([example], slots=True)
    with torch.no_grad():
        chances = vocabulary_logits(model.backbone, model.hidden(batch)[0, int(lengths) - 1][None]).softmax(1)
    tokens = sampled(names, 0, 1)(chances.log().expand(n, -1), [[]] * n)
    share = torch.bincount(tokens, minlength=chances.shape[1]) / n
    assert (share - chances[0]).abs().max() < 4 * float((chances[0].max() / n).sqrt())


def test_constrained_goes_along_the_titles_by_the_best_next_token(model, collator):
    """Against a walk by hand: at each fork the token with the highest log-probability among those allowed."""
    model.eval()
    examples = EXAMPLES[:3]
    titles = [[collator.encoder.answer_ids("topk", t) for t in collator.encoder.labels(x)] for x in examples]
    choose = constrained([Trie.of(lists) for lists in titles], collator.encoder.eos)
    found = generate(model, collator, examples, choose, slots=True, tokens=40, device=CPU)
    with torch.no_grad():
        for example, ids, lists in zip(examples, found, titles, strict=True):
            assert ids in lists
            at: list[int] = []
            while at not in lists:
                batch, lengths = collator.generation([example], slots=True)
                batch.input_ids = torch.cat(
                    [batch.input_ids[:, : int(lengths)], torch.tensor([at], dtype=torch.long)], dim=1
                )
                logits = vocabulary_logits(model.backbone, model.hidden(batch)[0, -1:])[0]
                allowed = sorted({title[len(at)] for title in lists if title[: len(at)] == at and len(title) > len(at)})
                at.append(max(allowed, key=lambda token: float(logits[token])))
            assert ids == at


def test_protocols_answer_whole_lists_and_unusable_ones_are_nan(model, collator):
    model.eval()
    table = ExampleTable.of([make_example("topk", number) for number in range(6)], TASKS, "test")
    options = {"slots": True, "batch_size": 4, "device": CPU}
    trie = answered_lists(model, collator, table, "constrained", "model", **options)
    assert (trie.groupby("example_id", sort=False)["score"].sum() >= 1).all()
    free = answered_lists(model, collator, table, "generate", "model", **options)
    assert free["score"].isna().all(), "a model of random weights writes no title"
    match = answered_lists(model, collator, table, "slots", "model", **options)
    assert np.isfinite(match["score"]).all()


def test_a_folders_own_generation_settings_change_no_answer(backbone_folder, tables, collator, tmp_path):
    """Instruct models ship sampling settings, which transformers' own generate would follow (MiniOneRec, PR 57)."""
    shutil.copytree(backbone_folder, tmp_path, dirs_exist_ok=True)
    settings = {"do_sample": True, "top_k": 2, "top_p": 0.1, "temperature": 9.0, "repetition_penalty": 5.0}
    (tmp_path / "generation_config.json").write_text(json.dumps({**settings, "max_new_tokens": 1}))
    table = ExampleTable.of([make_example("topk", number) for number in range(6)], TASKS, "test")
    options = {"slots": True, "batch_size": 4, "device": CPU}
    found = []
    for folder in (backbone_folder, tmp_path):
        model = recommender("llama", folder, tables).eval()
        trie = answered_lists(model, collator, table, "constrained", "model", **options)
        found.append((generate(model, collator, EXAMPLES, greedy, slots=True, tokens=6, device=CPU), trie))
    assert model.backbone.generation_config.top_k == 2, "transformers has read them"
    assert found[0][0] == found[1][0]
    assert max(map(len, found[1][0])) > 1
    pd.testing.assert_frame_equal(found[0][1], found[1][1])


def test_an_answer_as_json_is_unusable_and_counted_as_the_worst(model, collator, monkeypatch):
    """A model that writes {"answer": title} has named no candidate (MiniOneRec, issue 28)."""
    encoder = collator.encoder
    table = ExampleTable.of([make_example("topk", number) for number in range(4)], TASKS, "test")
    wanted = [encoder.labels(example)[0] for example in (table[row] for row in range(4))]

    def written(model, collators, examples, choose, **options):
        texts = [title if row % 2 else json.dumps({"answer": title}) for row, title in enumerate(wanted)]
        return [[*encoder.tokenizer(text, add_special_tokens=False)["input_ids"], encoder.eos] for text in texts]

    monkeypatch.setattr(protocols, "generate", written)
    rows = answered_lists(model, collator, table, "generate", "model", slots=True, batch_size=4, device=CPU)
    unusable = rows.groupby("example_id", sort=False)["score"].apply(lambda scores: scores.isna().all())
    assert unusable.tolist() == [True, False, True, False]
    found = compute_metrics(rows.assign(warm_seen=True, warm_3=True), "test", 10)
    assert found["test/topk/unusable"] == rows["score"].isna().sum() == 8, "four candidates in each of two lists"
    worst = compute_metrics(rows[rows["score"].isna()].assign(warm_seen=True, warm_3=True), "test", 10)
    assert worst["test/topk/mrr[c10]"] == 1 / 4


def test_slot_match_is_the_product_with_the_fused_vectors(model, collator):
    """The item slots of the topk prompt itself hold the fused vectors of its candidates."""
    model.eval()
    example = make_example("topk", 2)
    (found,) = slot_match(model, collator, [example], [example.candidates], device=CPU)
    batch, lengths = collator.generation([example], slots=True)
    with torch.no_grad():
        fused = model.fusion(batch.slots)
        items = fused[len(batch.slots.user_rows) :][: len(example.candidates)]
        hidden = model.hidden(batch)[0, int(lengths) - 1]
    np.testing.assert_allclose(found, (items @ hidden).numpy(), rtol=1e-4)
