"""Lines over candidate lists: the target once, no other positive, no title twice, places and draws even."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import chisquare

from ckf.data.audit.counters import Tally
from ckf.data.audit.example_batch import Block
from ckf.data.audit.report import PASS, STOP, WARN, Finding
from ckf.data.example_settings import ExampleSettings
from ckf.data.interactions import InteractionLog
from ckf.data.ragged import PairIndex


class ListChecks:
    """Counts over all candidate lists, and the two statistical tests at the end."""

    def __init__(self, log: InteractionLog, settings: ExampleSettings) -> None:
        self.log, self.settings = log, settings
        liked = log.click == 1
        self.everywhere = PairIndex(log.user[liked], log.item[liked])
        self.in_train = PairIndex(log.user[liked & log.train], log.item[liked & log.train])
        self.popularity = log.train_counts("item")
        self.places = np.zeros(settings.candidates, dtype=np.int64)
        self.most_popular, self.lists = 0.0, 0
        self._expect_held_out()

    def _expect_held_out(self) -> None:
        """For each user, how many held-out positives a training list holds when draws do not look at them.

        A lower bound: draws without repetition find an item more often than as many with repetition.
        """
        log, draws = self.log, self.settings.candidates - 1
        weight = np.zeros(len(log.title))
        weight[log.catalogue] = self.popularity[log.catalogue] if self.settings.negatives == "popularity" else 1.0
        weight /= max(weight.sum(), 1e-9)
        users = int(log.user.max(initial=0)) + 1
        liked = log.click == 1
        held_out, known = liked & ((log.split == 1) | (log.split == 2)), liked & log.train
        barred = np.bincount(log.user[known], weights=weight[log.item[known]], minlength=users)
        if self.settings.released:  # nothing but the target is barred
            barred[:] = 0
        share = np.minimum(weight[log.item[held_out]] / np.maximum(1 - barred[log.user[held_out]], 1e-9), 1)
        self.held_out = np.bincount(log.user[held_out], weights=1 - (1 - share) ** draws, minlength=users)
        self.expected, self.observed = 0.0, 0

    def check(self, block: Block, tally: Tally) -> None:
        """Candidate lists and drawn items of one block."""
        known = np.where(
            block.split == 0,
            self.in_train.has(block.user, block.item),
            self.everywhere.has(block.user, block.item),
        )
        tally.add("drawn_item_is_positive", known, block.names, block.drawn)
        topk = np.flatnonzero(block.of(lambda task: task.lists))
        if not len(topk):
            return
        log, names = self.log, block.names.take(topk)
        lists, item, user, position = (
            block.candidates.take(topk),
            block.item[topk],
            block.user[topk],
            block.position[topk],
        )
        training = block.split[topk] == 0
        tally.add("candidate_count", lists.lengths != self.settings.candidates, names)
        at = lists.offsets[:-1] + position
        inside = (position >= 0) & (position < lists.lengths)
        there = np.zeros(len(topk), dtype=bool)
        there[inside] = lists.values[at[inside]] == item[inside]
        tally.add("target_not_among_candidates", ~there, names)
        owner = lists.row_of
        title = log.title_of(lists.values)
        tally.add("candidate_ids_in_tables", lists.any_of(title == 0), names)
        negative = lists.values != item[owner]
        mine = user[owner]
        in_train = negative & self.in_train.has(mine, lists.values)
        anywhere = negative & self.everywhere.has(mine, lists.values)
        in_history = self._in_history(block.history.take(topk), lists.values, owner) & negative
        barred = np.where(training[owner], in_train, anywhere) | in_history
        tally.add("negative_is_positive", lists.any_of(barred), names)
        tally.add("duplicate_titles_among_candidates", _repeats(title, lists.offsets), names)
        self.observed += int((anywhere & ~in_train & training[owner]).sum())
        self.expected += float(self.held_out[user[training]].sum())
        self.places += np.bincount(position[inside & (position < len(self.places))], minlength=len(self.places))
        self._rank_by_count(lists.values, lists.offsets, item)

    def _in_history(self, history, values: np.ndarray, owner: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
        known = PairIndex(history.row_of, history.values)
        return known.has(owner, values)

    def _rank_by_count(self, values: np.ndarray, offsets: np.ndarray, item: np.ndarray) -> None:
        """How often counting alone would put the target first (ties share)."""
        count = self.popularity[np.minimum(values, len(self.popularity) - 1)]
        best = np.maximum.reduceat(count, offsets[:-1])
        ties = np.add.reduceat(count == np.repeat(best, np.diff(offsets)), offsets[:-1])
        mine = self.popularity[np.minimum(item, len(self.popularity) - 1)]
        self.most_popular += float((np.where(mine == best, 1.0, 0.0) / ties).sum())
        self.lists += len(item)

    def lines(self) -> Iterator[Finding]:
        """The lines that need all lists."""
        n, kinds = int(self.places.sum()), len(self.places)
        p = float(chisquare(self.places).pvalue) if n else 1.0
        level = STOP if p < 1e-9 else WARN if p < 1e-4 else PASS
        shown = ", ".join(map(str, self.places[:12])) + (", …" if kinds > 12 else "")
        message = f"lists by place of the target: {shown}; chi-square p = {p:.3g}"
        yield Finding("candidate_position", level, message, int(self.places.max(initial=0)), n)
        low = self.expected - 6 * np.sqrt(self.expected)
        looked = self.expected > 40 and self.observed < low
        message = (
            f"training negatives that are held-out positives of the user; {self.expected:.1f} are expected of draws "
            "that do not look at held-out rows"
        )
        yield Finding("negatives_avoid_held_out", STOP if looked else PASS, message, self.observed, self.lists)
        share = round(self.most_popular)
        message = f"lists whose target has the most training interactions; chance is {1 / self.settings.candidates:.1%}"
        yield Finding("target_is_most_popular", PASS, message, share, self.lists)


def _repeats(codes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Whether a row holds one code twice. bool [n]"""
    lengths = np.diff(offsets)
    width = int(lengths.max(initial=0))
    table = np.tile(-1 - np.arange(width, dtype=np.int64), (len(lengths), 1))
    row = np.repeat(np.arange(len(lengths)), lengths)
    table[row, np.arange(len(codes)) - np.repeat(offsets[:-1], lengths)] = codes
    table.sort(axis=1)
    return (table[:, 1:] == table[:, :-1]).any(axis=1)
