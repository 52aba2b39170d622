"""Initial item vectors from the likes: spectral embedding of the item similarities."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import eigsh

from ckf.cf.data import CFData
from ckf.cf.models.itemknn import top_neighbours

_NEIGHBOURS, _SHRINKAGE = 100, 10.0


def like_vectors(data: CFData, dim: int, draw: np.random.Generator) -> np.ndarray:
    """Vectors whose dot products best approximate the item similarities in ``dim`` dimensions. [n_items + 1, dim]

    The leading eigenvectors of the symmetric neighbourhoods (`ItemKNNModel`'s, on the likes of train), rotated at
    random so that no dimension carries more than another; the mean square of their norms is one. Zero for items
    that no two users liked with another. float32, in which the last bits of the decomposition do not show.
    """
    near = top_neighbours(data.train, data, _NEIGHBOURS, _SHRINKAGE)
    near = (near + near.T) / 2
    start = draw.standard_normal(data.n_items + 1)
    turn, _ = np.linalg.qr(draw.standard_normal((dim, dim)))
    vectors = np.zeros((data.n_items + 1, dim))
    if near.nnz == 0:
        return vectors.astype(np.float32)
    values, leading = eigsh(near, k=min(dim, data.n_items), which="LA", v0=start)
    there = np.diff(near.tocsr().indptr) > 0
    vectors[there, : len(values)] = leading[there] * np.sqrt(np.maximum(values, 0.0))
    turned = vectors @ turn / np.sqrt(np.square(vectors[there]).sum(axis=1).mean())
    return turned.astype(np.float32)
