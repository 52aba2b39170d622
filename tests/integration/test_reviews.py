"""Explanations as text, from training to the report: prompts, sampling by name, baselines, and the line of why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import ckf
from ckf.config.compose import compose
from ckf.config.schema import EvaluateConfig
from ckf.config.serialization import fingerprint_payload
from ckf.core.artifact_store import fingerprint, read_json
from ckf.core.errors import ConfigError
from ckf.data.example_table import ExampleTable
from ckf.eval.reviews import baseline_reviews, text_metrics
from ckf.pipeline import run as pipeline
from ckf.runs.folder import read_run
from ckf.tasks import BUILT_IN
from tests.integration.conftest import run_small

MIX = "tasks=[{name: ctr, weight: 1}, {name: rating, weight: 1}, {name: review, weight: 2}]"
SHORT = ["evaluate.max_new_tokens=12", "evaluate.max_examples=24"]


@pytest.fixture(scope="module")
def writer(home) -> Path:
    return run_small(home, MIX, *SHORT)


def test_the_prompt_says_item_and_rating_and_never_the_review(writer):
    model = ckf.load(writer)
    table = ExampleTable(model.inputs.examples / "examples.parquet", "test", ["review"])
    example, encoder = table[0], model.collators.encoder
    prompt = encoder.encode(example, slots=True)
    words = encoder.tokenizer.decode([token for token in prompt.token_ids if token >= 0])
    assert encoder.titles[example.item] in words
    assert f" {example.label:g}." in words
    assert example.review not in words
    assert {kind for _, kind, _ in prompt.slots} == {"user", "item"}
    assert encoder.true_label(example) == example.review


def test_reviews_are_measured_beside_two_baselines_from_the_file_alone(writer):
    metrics = read_json(writer / "metrics.json")
    rows = pd.read_parquet(writer / "predictions" / "test-review.parquet")
    assert {"raw_user", "raw_item"} <= set(rows)
    assert set(rows["source"]) == {"model", "text", "frequent", "random"}
    again = text_metrics(rows, "test", "[greedy]", BUILT_IN["review"])
    assert {key: metrics[key] for key in again} == pytest.approx(again)
    for prefix in ("", "text/", "frequent/", "random/"):
        for name in ("bleu1", "bleu4", "rouge1", "rouge2", "rougeL", "length", "n", "users", "unusable"):
            assert f"{prefix}test/review/{name}[greedy]" in metrics
    assert "test/review/rmse" not in metrics
    page = (writer / "report.md").read_text()
    assert "written reviews (test)" in page
    assert "the item's most frequent sentence" in page


def test_baseline_reviews_by_hand(writer):
    path = Path(read_run(writer)[1]["artifacts"]["examples"]["path"]) / "examples.parquet"
    table, train = (ExampleTable(path, split, ["review"]) for split in ("test", "train"))
    found = baseline_reviews(table, train)
    for row in range(20):
        said = Counter()
        for item, review in zip(train.item, train.review, strict=True):
            if item == table.item[row]:
                said.update(part if part.endswith(".") else f"{part}." for part in review.split(". "))
        if said:
            best = max(said.values())
            assert found["frequent"][row] == min(text for text, count in said.items() if count == best)
    assert set(found["random"]) <= set(train.review)


def test_sampled_texts_are_named_by_their_seed_and_the_same_again(writer, tmp_path):
    asked = ["evaluate.decoding=sampled", *SHORT]
    outs = []
    for name, seed, size in (("a", 0, 128), ("b", 0, 7), ("c", 1, 128)):
        drawn = [*asked, f"evaluate.generation_seed={seed}", f"evaluate.batch_size={size}"]
        outs.append(pipeline.evaluate(writer, drawn, out=tmp_path / name))
    rows = [pd.read_parquet(out / "predictions" / "test-review.parquet") for out in outs]
    texts = [part.query("source == 'model'")["text"] for part in rows]
    assert texts[0].tolist() == texts[1].tolist(), "whatever the batches"
    assert texts[0].tolist() != texts[2].tolist()
    assert "test/review/bleu4[sampled-s0-t1]" in read_json(outs[0] / "metrics.json")
    assert "test/review/bleu4[sampled-s1-t1]" in read_json(outs[2] / "metrics.json")


def test_a_model_that_writes_says_why(writer):
    found = ckf.load(writer).recommend(user="u4", top=3)
    assert found["why"].map(type).eq(str).all()
    assert not found["why"].str.contains("\n").any()


def test_runs_that_do_not_write_keep_their_names():
    exp = compose([])[0]
    payload = fingerprint_payload(exp)
    assert "review" not in payload["prompts"]
    digest = fingerprint(payload)
    assert fingerprint(fingerprint_payload(compose(["prompts.review.text='{candidate} {rating}'"])[0])) == digest
    assert fingerprint(fingerprint_payload(compose(["evaluate.generation_seed=3"])[0])) != digest


def test_what_cannot_be_written_is_refused():
    with pytest.raises(ConfigError, match="review is written, not scored; list a scored task with it"):
        compose(["tasks=[{name: review, weight: 1}]"])
    with pytest.raises(ConfigError, match=r"tasks.mixture\[1\].name: review, but dataset=ml1m provides"):
        compose(["tasks=[{name: ctr, weight: 1}, {name: review, weight: 1}]", "dataset=ml1m", "dataset.root=/x"])
    wrong = EvaluateConfig(decoding="best", temperature=0, candidate_source="some", protocols=["x"])
    assert [str(problem) for problem in wrong.problems()] == [
        "candidate_source: 'some' is not allowed; one of listed, all, file",
        "decoding: 'best' is not allowed; one of greedy, sampled",
        "temperature: must be above 0, got 0 (decoding=greedy takes the best token)",
        "protocols: 'x' is not allowed; one of slots, generate, constrained",
    ]
