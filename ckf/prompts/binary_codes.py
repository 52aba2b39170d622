"""CF vectors as text: the sign pattern of a random projection, as digits or in dotted decimal (BinLLM)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ckf.cf.vectors.tables import PermutedTable, VectorTables, trained_rows
from ckf.core.rng import generator_for


class HashedCodes:
    """Codes of ``bits`` digits: a digit is the side of a random hyperplane through the mean on which the vector lies.

    Users and items share the hyperplanes, so that near vectors share digits (Charikar 2002).
    ``dotted`` writes each byte as a decimal number, as in an IP address: 172.16.254.1. The code of a cold id
    (a row of zeros) is all zeros. Departure from BinLLM (Zhang et al. 2024, arXiv 2406.03210):
    there the projection is trained with the CF model's loss through a straight-through estimator;
    here it is drawn at random from ``seed``.
    """

    def __init__(self, tables: VectorTables, *, bits: int, dotted: bool, seed: int) -> None:
        self.tables, self.bits, self.dotted, self.seed = tables, bits, dotted, seed
        planes = generator_for(seed, "hyperplanes of the codes").standard_normal((tables.dim, bits))
        self.planes = torch.from_numpy(planes).float()
        self.centres = {"user": _centre(tables.users), "item": _centre(tables.items)}

    def of(self, tables: VectorTables) -> HashedCodes:
        """The same hash of other tables."""
        return HashedCodes(tables, bits=self.bits, dotted=self.dotted, seed=self.seed)

    def user(self, user: int) -> str:
        """Code of a user."""
        return self._code(self.tables.users[user], "user")

    def item(self, item: int) -> str:
        """Code of an item."""
        return self._code(self.tables.items[item], "item")

    def _code(self, vector: Tensor, kind: str) -> str:
        if not bool((vector != 0).any()):
            signs = np.zeros(self.bits, dtype=np.uint8)
        else:
            signs = ((vector.float() - self.centres[kind]) @ self.planes > 0).numpy().astype(np.uint8)
        if self.dotted:
            return ".".join(str(byte) for byte in np.packbits(signs))
        return "".join(str(sign) for sign in signs)


def _centre(table: Tensor | PermutedTable) -> Tensor:
    trained = trained_rows(table)
    return trained.mean(dim=0) if len(trained) else torch.zeros(table.shape[1])
