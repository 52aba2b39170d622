"""Text metrics against counts by hand on random texts."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from ckf import metrics

CASES = 1_000
VOCABULARY = ["the", "plot", "was", "good", "bad", "a", "film", "of", "and", "very"]


def random_texts(number: int) -> tuple[list[str], list[str]]:
    """A few short texts and references, some of them empty, with many words in common."""
    draw = np.random.default_rng(number)
    texts, references = [], []
    for _ in range(int(draw.integers(1, 5))):
        references.append(" ".join(draw.choice(VOCABULARY, int(draw.integers(1, 9)))))
        texts.append(" ".join(draw.choice(VOCABULARY, int(draw.integers(0, 9)))))
    return texts, references


def grams(text: str, order: int) -> Counter:
    words = text.split()
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def f_measure(common: int, text: int, reference: int) -> float:
    return 2 * common / (text + reference) if common else 0.0


def longest_common(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_rouge_equals_the_hand_count():
    for number in range(CASES):
        texts, references = random_texts(number)
        found = metrics.rouge(texts, references)
        for order in (1, 2):
            by_hand = [
                f_measure(
                    sum((grams(t, order) & grams(r, order)).values()),
                    sum(grams(t, order).values()),
                    sum(grams(r, order).values()),
                )
                for t, r in zip(texts, references, strict=True)
            ]
            assert found[f"rouge{order}"] == pytest.approx(np.mean(by_hand))
        longest = [
            f_measure(longest_common(t.split(), r.split()), len(t.split()), len(r.split()))
            for t, r in zip(texts, references, strict=True)
        ]
        assert found["rougeL"] == pytest.approx(np.mean(longest))


def test_bleu_1_equals_the_hand_count():
    """Clipped unigram precision times the brevity penalty, over the corpus."""
    for number in range(CASES):
        texts, references = random_texts(number)
        common = sum(sum((grams(t, 1) & grams(r, 1)).values()) for t, r in zip(texts, references, strict=True))
        said, wanted = (sum(len(t.split()) for t in part) for part in (texts, references))
        penalty = 0.0 if not said else min(1.0, math.exp(1 - wanted / said))
        expected = penalty * common / said if common else 0.0
        if common:  # sacrebleu smooths a count of nothing
            assert metrics.bleu(texts, references, 1) == pytest.approx(expected)


def test_bleu_4_equals_the_hand_count_where_four_words_match():
    checked = 0
    for number in range(CASES):
        texts, references = random_texts(number)
        precisions = []
        for order in (1, 2, 3, 4):
            common = sum(
                sum((grams(t, order) & grams(r, order)).values()) for t, r in zip(texts, references, strict=True)
            )
            total = sum(sum(grams(t, order).values()) for t in texts)
            precisions.append(common / total if total else 0.0)
        if min(precisions) == 0:
            continue
        said, wanted = (sum(len(t.split()) for t in part) for part in (texts, references))
        expected = min(1.0, math.exp(1 - wanted / said)) * math.exp(np.mean(np.log(precisions)))
        assert metrics.bleu(texts, references, 4) == pytest.approx(expected)
        checked += 1
    assert checked >= 1
    same = ["a very good film of the plot"]
    assert metrics.bleu(same, same, 4) == pytest.approx(1.0)


def test_distinct_equals_the_hand_count_and_nothing_is_nan():
    for number in range(CASES):
        texts, _ = random_texts(number)
        for order in (1, 2):
            every = [gram for text in texts for gram in grams(text, order).elements()]
            found = metrics.distinct(texts, order)
            if every:
                assert found == pytest.approx(len(set(every)) / len(every))
            else:
                assert math.isnan(found)


def test_an_unusable_text_matches_nothing_and_stays_in_the_mean():
    texts = ["a good film", ""]
    assert metrics.rouge(texts, ["a good film", "a bad film"])["rougeL"] == pytest.approx(0.5)
    assert metrics.mean_length(texts) == pytest.approx(1.5)
