"""Look-ups over user-item pairs and rows of lists, without a loop over rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class PairIndex:
    """Finds the row of a (user, item) pair; of repeated pairs the first one."""

    def __init__(self, user: np.ndarray, item: np.ndarray) -> None:
        self.width = int(item.max(initial=0)) + 1
        keys = self._keys(user, item)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]

    def _keys(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return user.astype(np.int64) * self.width + item

    def rows(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Row of each pair, -1 where there is none; arguments broadcast. int64"""
        user, item = np.broadcast_arrays(user, item)
        if not len(self.keys):
            return np.full(user.shape, -1, dtype=np.int64)
        keys = self._keys(user, item)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where((self.keys[place] == keys) & (item < self.width), self.order[place], -1)

    def has(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Whether each pair is there. bool"""
        return self.rows(user, item) >= 0


@dataclass(frozen=True)
class RaggedArray:
    """Rows of lists, flat: row ``r`` is ``values[offsets[r] : offsets[r + 1]]``."""

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Length of each row. int64 [n]"""
        return np.diff(self.offsets)

    @property
    def row_of(self) -> np.ndarray:
        """The row that each value belongs to. int64 [values]"""
        return np.repeat(np.arange(len(self)), self.lengths)

    @classmethod
    def ranges(cls, source: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> RaggedArray:
        """Row ``r`` is ``source[starts[r] : stops[r]]``."""
        return cls(source[range_indices(starts, stops)], offsets_of(stops - starts))

    def take(self, rows: np.ndarray) -> RaggedArray:
        """These rows in this order."""
        return RaggedArray.ranges(self.values, self.offsets[rows], self.offsets[rows + 1])

    def kept(self, mask: np.ndarray) -> RaggedArray:
        """Without the values where ``mask`` is False."""
        before = np.concatenate([[0], np.cumsum(mask)])
        return RaggedArray(self.values[mask], before[self.offsets])

    def last(self, n: int) -> RaggedArray:
        """At most the last ``n`` values of each row."""
        return RaggedArray.ranges(self.values, np.maximum(self.offsets[:-1], self.offsets[1:] - n), self.offsets[1:])

    def any_of(self, mask: np.ndarray) -> np.ndarray:
        """Whether ``mask`` (one for each value) holds anywhere in a row. bool [n]"""
        before = np.concatenate([[0], np.cumsum(mask)])
        return before[self.offsets[1:]] > before[self.offsets[:-1]]


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Offsets of rows of these lengths. int64 [n + 1]"""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def range_indices(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """``concatenate([arange(a, b) for a, b in zip(starts, stops)])``. int64"""
    lengths = stops - starts
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
