"""Keys and values of a prefix that two prompts share: recorded with the first, used by the rest of the second.

``transformers`` takes any object with ``update`` as its cache. Its own caches copy what they keep and cut it
to a layer's window; these keep all of it, and the masks (`ckf.model.attention.masks`) limit what each layer
may attend to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_Layers = dict[int, tuple[Tensor, Tensor]]  # keys and values [B, H, T, d] by the layer's number


class RecordingCache:
    """Records the keys and values [B, H, T, d] of every layer of one forward pass, detached.

    The pass itself is not changed: it gets its own keys and values back.
    """

    def __init__(self) -> None:
        self._layers: _Layers = {}

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: object) -> tuple[Tensor, Tensor]:
        """The same keys and values; every attention layer calls this (a checkpointed one twice)."""
        self._layers[layer_idx] = (keys.detach(), values.detach())
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before those of this pass: none."""
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Position of this pass's first token."""
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Number of keys and the position of the first, for the mask that the model makes."""
        return query_length, 0

    def first(self, length: int) -> _Layers:
        """The first ``length`` positions of every layer, or all where there are fewer."""
        return {number: (k[:, :, :length], v[:, :, :length]) for number, (k, v) in self._layers.items()}


class PrefixBank:
    """The first ``length`` positions of several passes, with the rows of all passes in one tensor.

    Shorter passes are padded with zeros, which masks hide.
    """

    def __init__(self, passes: Sequence[RecordingCache], length: int) -> None:
        parts = [cache.first(length) for cache in passes]
        self._layers = parts[0]
        if len(parts) > 1:
            self._layers = {n: (_stacked(parts, n, 0, length), _stacked(parts, n, 1, length)) for n in parts[0]}

    def of(self, rows: Tensor | None, length: int) -> PrefixedCache:
        """The first ``length`` positions of some rows (None: of all), for a pass that continues them."""
        return PrefixedCache(self._layers, rows, length)


class PrefixedCache:
    """Puts recorded keys and values before those of a pass, which brings its own mask and position ids."""

    def __init__(self, layers: _Layers, rows: Tensor | None, length: int) -> None:
        self._layers, self._rows, self._length = layers, rows, length

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: object) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, length + T, d]; every attention layer calls this."""
        before_keys, before_values = self._layers[layer_idx]
        return self._joined(before_keys, keys), self._joined(before_values, values)

    def _joined(self, before: Tensor, own: Tensor) -> Tensor:
        before = before[:, :, : self._length]
        return torch.cat([before if self._rows is None else before[self._rows], own], dim=2)


def _stacked(parts: Sequence[_Layers], layer: int, kind: int, length: int) -> Tensor:
    """Keys (0) or values (1) of one layer of all passes [B, H, length, d]."""
    found = [part[layer][kind] for part in parts]
    stacked = found[0].new_zeros(sum(len(part) for part in found), found[0].shape[1], length, found[0].shape[3])
    for part, place in zip(found, stacked.split([len(part) for part in found]), strict=True):
        place[:, :, : part.shape[2]] = part
    return stacked
