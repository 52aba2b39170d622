"""Item vectors: an embedding of the item plus embeddings of its title's words and year."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ckf.cf.features.titles import Content
from ckf.cf.nn.kernels import PaddedEmbedding, rows_of

_WORDS = 8  # of a title; more are cut


class ItemEncoder(nn.Module):
    """``q_v = id_v + mean of its words' vectors + its years' vector``; without content ``q_v = id_v``.

    The own vector of an item without training rows starts at zero and, without content, stays there. Row 0 is padding.
    """

    words_of: Tensor
    span_of: Tensor
    share_of: Tensor

    def __init__(
        self,
        content: Content | None,
        seen: np.ndarray,
        n_items: int,
        dim: int,
        draw: np.random.Generator,
        *,
        sparse: bool = True,
    ) -> None:
        super().__init__()
        self.ids = init_embedding(n_items, dim, seen, draw, sparse=sparse)
        self.words: PaddedEmbedding | None = None
        if content is None:
            return
        words_of, share_of = _padded_words(content)
        self.register_buffer("words_of", torch.from_numpy(words_of), persistent=False)
        self.register_buffer("share_of", torch.from_numpy(share_of), persistent=False)
        self.register_buffer("span_of", torch.from_numpy(content.year_spans()), persistent=False)
        self.words = init_embedding(len(content.vocabulary), dim, np.arange(1, len(content.vocabulary) + 1), draw)
        self.spans = init_embedding(int(self.span_of.max()), dim, np.arange(1, int(self.span_of.max()) + 1), draw)

    def begin_at(self, vectors: np.ndarray) -> None:
        """Start the items' own vectors at ``vectors`` [n_items + 1, d] where those are not zero."""
        given = np.flatnonzero(vectors.any(axis=1))
        with torch.no_grad():
            self.ids.weight[torch.from_numpy(given)] = torch.from_numpy(vectors[given])

    def forward(self, items: Tensor) -> Tensor:
        """Vectors of items of any shape. [..., d]"""
        if self.words is None:
            return self.ids(items)
        distinct, place = torch.unique(items, return_inverse=True)
        words = (self.words(self.words_of[distinct]) * self.share_of[distinct][..., None]).sum(dim=1)
        return rows_of(self.ids(distinct) + words + self.spans(self.span_of[distinct]), place)

    def every(self) -> Tensor:
        """Vectors of all items, padding first. [n_items + 1, d]"""
        if self.words is None:
            return self.ids.weight
        words = (self.words(self.words_of) * self.share_of[..., None]).sum(dim=1)
        return self.ids.weight + words + self.spans(self.span_of)


def init_embedding(
    n: int, dim: int, seen: np.ndarray, draw: np.random.Generator, scale: float = 0.1, *, sparse: bool = True
) -> PaddedEmbedding:
    """A table [n + 1, dim] with small random rows for the ids ``seen`` and zeros elsewhere."""
    embedding = PaddedEmbedding(n + 1, dim, sparse=sparse)
    known = np.zeros(n + 1, dtype=bool)
    known[seen] = True
    known[0] = False
    start = np.zeros((n + 1, dim), dtype=np.float32)
    start[known] = draw.normal(scale=scale / np.sqrt(dim), size=(int(known.sum()), dim))
    with torch.no_grad():
        embedding.weight.copy_(torch.from_numpy(start))
    return embedding


def _padded_words(content: Content) -> tuple[np.ndarray, np.ndarray]:
    """Word numbers from 1 [n_items + 1, W] (0 pads) and the share of each in its title's mean."""
    words = content.words
    counts = np.minimum(np.diff(words.indptr), _WORDS)
    width = max(1, int(counts.max(initial=0)))
    place = words.indptr[:-1, None] + np.arange(width)
    inside = np.arange(width) < counts[:, None]
    if words.nnz:
        numbers = np.where(inside, words.indices[np.where(inside, place, 0)] + 1, 0)
    else:
        numbers = np.zeros(inside.shape, dtype=np.int64)
    share = inside / np.maximum(1, counts)[:, None]
    return numbers.astype(np.int64), share.astype(np.float32)
