"""Candidate lists: the target among negatives, drawn by the example's name, for all rows at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ckf.core.rng import hashed_uniform
from ckf.core.split_names import SPLITS
from ckf.data.interactions import InteractionLog, lists_of
from ckf.data.ragged import PairIndex, RaggedArray

_ATTEMPTS = 200


@dataclass(frozen=True)
class CandidateRows:
    """What the lists are drawn for: one entry a row; ``keys`` are the example ids' (`hash_ids`)."""

    keys: np.ndarray
    user: np.ndarray
    item: np.ndarray
    split: np.ndarray
    history: RaggedArray

    def take(self, rows: np.ndarray) -> CandidateRows:
        """These rows in this order."""
        return CandidateRows(
            self.keys[rows], self.user[rows], self.item[rows], self.split[rows], self.history.take(rows)
        )


class CandidateSampler:
    """Draws ``count`` candidates a row: the target and ``count - 1`` negatives, no two of one title.

    Training negatives avoid the user's *training* positives only: to look at held-out ones would leak
    them. Evaluation candidates avoid the user's positives of every split. ``popularity`` draws items by
    their number of training interactions instead of uniformly. ``released`` is the released code's
    draw: any item but the target, be it a positive of the user's or a second edition of the target.
    """

    def __init__(
        self, log: InteractionLog, count: int, seed: int, *, popularity: bool = False, released: bool = False
    ) -> None:
        self.log, self.count, self.seed, self.released = log, count, seed, released
        self.cumulative: np.ndarray | None = None
        if popularity:
            weights = log.train_counts("item")[log.catalogue]
            self.cumulative = np.cumsum(weights) / weights.sum()
        liked = log.click == 1
        self.everywhere = PairIndex(log.user[liked], log.item[liked])
        liked &= log.train
        self.in_train = PairIndex(log.user[liked], log.item[liked])
        drawn = "negatives by popularity" if popularity else "negatives"
        self.purpose = f"{drawn}, released" if released else drawn

    def draw(self, rows: CandidateRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Candidates in an order drawn by example id, the target's place, and how many items can be candidates.

        int64 [n, count], [n], [n]. Where the number (the target among them) is below ``count``, the row's list is
        not complete and of no use; else it is given as ``count``.
        """
        negatives, found = self.negatives(rows)
        listed = np.column_stack([rows.item, negatives])
        order = np.argsort(hashed_uniform(self.seed, "candidate order", rows.keys, self.count), axis=1, kind="stable")
        return np.take_along_axis(listed, order, axis=1), np.argmin(order, axis=1), found + 1

    def negatives(self, rows: CandidateRows) -> tuple[np.ndarray, np.ndarray]:
        """The first ``count - 1`` usable items of each row's own series of draws, and how many were found."""
        need, series = self.count - 1, 4 * self.count
        chosen = np.zeros((len(rows.keys), need), dtype=np.int64)
        found = np.full(len(rows.keys), need)
        # most rows find theirs in the first draws; a longer series begins with the same numbers
        left = np.arange(len(rows.keys))
        part, got = rows, np.zeros(len(left), dtype=np.int64)
        for attempt, length in [(0, need + self.count // 2), *((a, series) for a in range(_ATTEMPTS + 1))]:
            purpose = self.purpose if attempt == 0 else f"{self.purpose}, again {attempt}"
            drawn = self._items(hashed_uniform(self.seed, purpose, part.keys, length))
            if attempt == 0:
                got[:] = 0
            before = np.where(np.arange(need) < got[:, None], chosen[left], 0)
            chosen[left], got = self._first_usable(part, np.hstack([before, drawn]), need)
            short = np.flatnonzero(got < need)
            left, got, part = left[short], got[short], part.take(short)
            if not len(left):
                return chosen, found
        for row in range(len(left)):  # nearly the whole catalogue is barred: look at every item once
            chosen[left[row]], found[left[row]] = self._exhaustive(part.take(np.asarray([row])), need)
        return chosen, found

    def _items(self, uniform: np.ndarray) -> np.ndarray:
        catalogue = self.log.catalogue
        if self.cumulative is None:
            return catalogue[(uniform * len(catalogue)).astype(np.int64)]
        return catalogue[np.minimum(np.searchsorted(self.cumulative, uniform, side="right"), len(catalogue) - 1)]

    def _first_usable(self, rows: CandidateRows, drawn: np.ndarray, need: int) -> tuple[np.ndarray, np.ndarray]:
        """The first ``need`` usable items of each row of draws [n, d] (0 is none), and how many there are."""
        same = drawn if self.released else self.log.title[drawn]
        target = rows.item if self.released else self.log.title[rows.item]
        usable = (drawn > 0) & (same != target[:, None]) & _first_of_its_kind(same, usable=self._allowed(rows, drawn))
        rank = np.cumsum(usable, axis=1)
        usable &= rank <= need
        chosen = np.zeros((len(drawn), need), dtype=np.int64)
        row, column = np.nonzero(usable)
        chosen[row, rank[row, column] - 1] = drawn[row, column]
        return chosen, usable.sum(axis=1)

    def _allowed(self, rows: CandidateRows, drawn: np.ndarray) -> np.ndarray:
        """Whether a draw is none of the user's positives, by what the row's split may know. bool [n, d]"""
        if self.released:
            return np.ones(drawn.shape, dtype=bool)
        barred = np.empty(drawn.shape, dtype=bool)
        for known, of_split in ((self.in_train, rows.split == 0), (self.everywhere, rows.split != 0)):
            barred[of_split] = known.has(rows.user[of_split, None], drawn[of_split])
        lengths = rows.history.lengths
        for place in range(int(lengths.max(initial=0))):
            there = np.flatnonzero(lengths > place)
            item = rows.history.values[rows.history.offsets[there] + place]
            barred[there] |= drawn[there] == item[:, None]
        return ~barred

    def _exhaustive(self, row: CandidateRows, need: int) -> tuple[np.ndarray, int]:
        catalogue = self.log.catalogue
        order = np.argsort(
            hashed_uniform(self.seed, f"{self.purpose}, all", row.keys, len(catalogue))[0], kind="stable"
        )
        chosen, got = self._first_usable(row, catalogue[order][None], need)
        return chosen[0], int(got[0])


def _first_of_its_kind(codes: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Whether an entry is usable and no usable entry before it in its row has its code. bool [n, d]"""
    # unusable entries get codes of their own, so that they hide nothing
    own = -1 - np.arange(codes.shape[1])
    codes = np.where(usable, codes, own)
    order = np.argsort(codes, axis=1, kind="stable")
    ordered = np.take_along_axis(codes, order, axis=1)
    first = np.ones(codes.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    found = np.empty_like(first)
    np.put_along_axis(found, order, first, axis=1)
    return found & usable


def as_lists(table: np.ndarray) -> RaggedArray:
    """Rows of one length as `RaggedArray`."""
    return RaggedArray(table.reshape(-1), np.arange(len(table) + 1) * table.shape[1])


@dataclass
class CandidateHash:
    """SHA-256 of the candidate lists of each split, with their examples' ids, however the rows come in blocks."""

    parts: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, table: pa.Table) -> None:
        """Take in the next examples (columns example_id, task, split, candidates), in the order of the file."""
        for split in SPLITS:
            listed = pc.greater(pc.list_value_length(table["candidates"]), 0)
            rows = table.filter(pc.and_(listed, pc.equal(table["split"], split)))
            if not rows.num_rows:
                continue
            ids, lengths, values = self.parts.setdefault(split, [hashlib.sha256() for _ in range(3)])
            lists = lists_of(rows["candidates"])
            ids.update("".join(f"{name}\n" for name in rows["example_id"].to_pylist()).encode())
            lengths.update(lists.lengths.astype("<i4").tobytes())
            values.update(lists.values.astype("<i4").tobytes())

    def digests(self) -> dict[str, str]:
        """Hexadecimal digest by split."""
        return {
            split: hashlib.sha256(b"".join(part.digest() for part in parts)).hexdigest()
            for split, parts in sorted(self.parts.items())
        }
