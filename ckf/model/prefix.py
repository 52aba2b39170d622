"""Keys and values that two prompts with one beginning share: computed with the first, read by the branch of the second.

``transformers`` hands an object with ``update`` from layer to layer as its cache. Its own caches copy what
they keep and cut it to a layer's window; these two keep all of it, and the masks (`ckf.model.attention`)
say what each layer may see.
"""

from __future__ import annotations

import torch
from torch import Tensor


class PrefixStates:
    """Records the keys and values [B, H, T, d] of every layer of one forward pass, cut from its graph.

    The pass itself computes what it would without: it gets its own keys and values back as they are.
    """

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: object) -> tuple[Tensor, Tensor]:
        """Called by every attention layer; a checkpointed layer's recomputation calls it again, with the same."""
        self._layers[layer_idx] = (keys.detach(), values.detach())
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens that this pass finds before its own: none."""
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Position of this pass's first token."""
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Number of keys and the position of the first, for the mask that the model makes."""
        return query_length, 0

    def before(self, length: int) -> BranchStates:
        """The first ``length`` positions, for a pass over what comes after them."""
        return BranchStates({n: (k[:, :, :length], v[:, :, :length]) for n, (k, v) in self._layers.items()})


class BranchStates:
    """Puts recorded keys and values before a pass's own. The pass brings its own mask and position ids."""

    def __init__(self, layers: dict[int, tuple[Tensor, Tensor]]) -> None:
        self._layers = layers

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: object) -> tuple[Tensor, Tensor]:
        """Called by every attention layer."""
        before_keys, before_values = self._layers[layer_idx]
        return torch.cat([before_keys, keys], dim=2), torch.cat([before_values, values], dim=2)


States = PrefixStates | BranchStates
