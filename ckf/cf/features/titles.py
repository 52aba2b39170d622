"""Words and year of item titles."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
from scipy import sparse

_YEAR = re.compile(r"\((\d{4})\)")
_WORD = re.compile(r"[^\W\d_]{3,}")
_SPAN = 5  # years that share a quality
_PRIOR = 20.0  # rows' worth of shrinkage of a word's or a span's quality


class Content:
    """Words (those of two titles or more) and year of each item; rows of ``words`` sum to one.

    ``words``: sparse [n_items + 1, n_words]; ``year``: [n_items + 1], 0 where the title names none.
    """

    def __init__(self, titles: list[str], n_items: int) -> None:
        titles = [*titles, *[""] * (n_items + 1 - len(titles))]
        found = [_YEAR.search(title) for title in titles]
        self.year = np.asarray([int(match.group(1)) if match else 0 for match in found], dtype=np.int64)
        words = [set(_WORD.findall(_YEAR.sub("", title).casefold())) for title in titles]
        shared = Counter(word for title_words in words for word in title_words)
        self.vocabulary = sorted(word for word, titles_with in shared.items() if titles_with > 1)
        place = {word: number for number, word in enumerate(self.vocabulary)}
        pairs = [(item, place[word]) for item, own in enumerate(words) for word in sorted(own) if word in place]
        rows, columns = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
        present = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(titles), len(self.vocabulary)))
        lengths = np.maximum(1.0, np.asarray(present.sum(axis=1)).ravel())
        self.words = sparse.csr_matrix(sparse.diags(1.0 / lengths) @ present)

    @property
    def scaled_years(self) -> np.ndarray:
        """Decades from the mean year of the catalogue; 0 where unknown. [n_items + 1]"""
        dated = self.year > 0
        if not dated.any():
            return np.zeros(len(self.year))
        return np.where(dated, (self.year - self.year[dated].mean()) / 10.0, 0.0)

    def year_spans(self) -> np.ndarray:
        """An index for each span of five years, from 1; 0 where the year is unknown. [n_items + 1]"""
        spans = np.unique(self.year[self.year > 0] // _SPAN)
        return np.where(self.year > 0, np.searchsorted(spans, self.year // _SPAN) + 1, 0)

    def qualities(self, item: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shrunk means of ``values`` over the title's words and over the years around, by item. two [n_items + 1]"""
        n = len(self.year)
        total, count = np.bincount(item, weights=values, minlength=n), np.bincount(item, minlength=n).astype(float)
        present = (self.words > 0).astype(float)
        by_word = (present.T @ total) / (present.T @ count + _PRIOR)
        span = self.year_spans()
        by_span = np.bincount(span, weights=total) / (np.bincount(span, weights=count) + _PRIOR)
        return self.words @ by_word, np.where(span > 0, by_span[span], 0.0)

    def unit_words(self) -> sparse.csr_matrix:
        """Words weighted by tf-idf, each row of unit length or empty. [n_items + 1, n_words]"""
        present = (self.words > 0).astype(float)
        items_with = np.asarray(present.sum(axis=0)).ravel()
        weighted = sparse.csr_matrix(present @ sparse.diags(np.log(len(self.year) / np.maximum(1.0, items_with))))
        lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        return sparse.csr_matrix(sparse.diags(1.0 / np.maximum(lengths, 1e-12)) @ weighted)
