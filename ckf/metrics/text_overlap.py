"""Metrics of written text against one reference each; tokens of BLEU are 13a's, all others' lower-case words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"[a-z0-9]+")


def bleu(texts: Sequence[str], references: Sequence[str], order: int) -> float:
    """Corpus BLEU up to n-grams of ``order`` (Papineni et al. 2002, as sacrebleu computes it), 0 to 1."""
    from sacrebleu.metrics import BLEU

    return float(BLEU(max_ngram_order=order, tokenize="13a").corpus_score(list(texts), [list(references)]).score) / 100


def rouge(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Mean F-measure of ``rouge1``, ``rouge2`` and ``rougeL`` (Lin 2004, as rouge-score computes it, no stemming)."""
    from rouge_score.rouge_scorer import RougeScorer

    names = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(names, use_stemmer=False)
    found = [scorer.score(reference, text) for text, reference in zip(texts, references, strict=True)]
    return {name: float(np.mean([scores[name].fmeasure for scores in found])) for name in names}


def distinct(texts: Sequence[str], order: int) -> float:
    """Share of different n-grams among all n-grams of all texts (Li et al. 2016); NaN where there is none."""
    grams = [gram for text in texts for gram in zip(*(words(text)[start:] for start in range(order)), strict=False)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def words(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return _WORD.findall(text.lower())


def mean_length(texts: Sequence[str]) -> float:
    """Mean number of words of a text. An unusable answer is an empty text: it matches nothing and has no words."""
    return float(np.mean([len(words(text)) for text in texts]))
