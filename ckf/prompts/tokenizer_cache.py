"""Pieces of text to token ids, as in the middle of a line; every piece is tokenised once."""

from __future__ import annotations

from typing import Any

from ckf.prompts.chat_template import control_tokens

RECENT_TEXTS = 1024
"""Long texts (reviews) kept: those of a batch, since its text and its slot prompts hold the same ones."""


class CachedTokenizer:
    """Token ids of text without special tokens or an added space."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._cache: dict[tuple[str, bool], list[int]] = {}
        self._recent: dict[str, list[int]] = {}
        self._sentinel = tokenizer("\n", add_special_tokens=False)["input_ids"]
        self._control = control_tokens(tokenizer)

    def piece(self, text: str, *, control: bool = False) -> list[int]:
        """Tokenise a piece that comes again: a title, an answer, wording.

        Text from the data (a title, a review) never becomes a control token: "</s>" in a title is four
        characters. ``control`` allows the tokenizer's control tokens; only wording may ask for it.
        """
        ids = self._cache.get((text, control))
        if ids is None:
            ids = self._cache[text, control] = self._tokens(text) if control else self._plain_tokens(text)
        return ids

    def piece_once(self, text: str) -> list[int]:
        """Tokenise text that will not come again after its batch (a review)."""
        ids = self._recent.get(text)
        if ids is None:
            if len(self._recent) >= RECENT_TEXTS:
                self._recent.clear()
            ids = self._recent[text] = self._plain_tokens(text)
        return ids

    def _tokens(self, text: str, *, split: bool = False) -> list[int]:
        options = {"add_special_tokens": False, "split_special_tokens": split}
        ids: list[int] = self.tokenizer("\n" + text, **options)["input_ids"]
        # sentencepiece vocabularies put a space before the first word; the newline keeps it off the piece
        n = len(self._sentinel)
        if ids[:n] == self._sentinel:
            return ids[n:]
        alone: list[int] = self.tokenizer(text, **options)["input_ids"]
        return alone

    def _plain_tokens(self, text: str) -> list[int]:
        ids = self._tokens(text, split=True)
        if set(self._control.values()).isdisjoint(ids):
            return ids
        # a unigram vocabulary holds its control tokens as words too: tokenise the two halves of one apart
        places = [(text.find(token), token) for token in self._control if token in text and len(token) > 1]
        if not places:
            return ids
        start, _ = min(places)
        return [*self._plain_tokens(text[: start + 1]), *self._plain_tokens(text[start + 1 :])]
