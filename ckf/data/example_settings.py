"""How examples are made: the keys of ``tasks`` in the config that change them."""

from __future__ import annotations

from dataclasses import dataclass

RELEASED_HISTORY = 9


@dataclass(frozen=True)
class ExampleSettings:
    """The keys of ``tasks`` in the config, without the mix.

    ``history_same_timestamp``: ``exclude`` or ``keep`` history items of the target's own second; ``auto`` keeps them
    where the source brings its histories and excludes them where they are made here. ``protocol``
    ``released`` makes the released code's choices: histories of at most nine; where the source brings
    no histories, every interaction counts as a positive and half of the ctr targets are replaced by a
    random item; where it brings them, rows with 1 to 20 history items; candidates that may be the user's
    own positives and may repeat a title.
    """

    history_items: int
    candidates: int
    review_words: int
    seed: int
    history_same_timestamp: str = "auto"
    negatives: str = "uniform"
    protocol: str = "strict"

    @property
    def released(self) -> bool:
        """Whether the released code's choices are made."""
        return self.protocol == "released"

    @property
    def longest_history(self) -> int:
        """Number of history items at most."""
        return min(self.history_items, RELEASED_HISTORY) if self.released else self.history_items

    def keeps_same_time(self, *, imported: bool) -> bool:
        """Whether history items of the target's own second stay."""
        return imported if self.history_same_timestamp == "auto" else self.history_same_timestamp == "keep"
