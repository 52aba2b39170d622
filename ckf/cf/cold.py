"""The vector of an id that train never met: nothing, the mean, or what its title says (cold-start by content)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

WORDS = r"(?u)\b\w+\b"


def fill_cold(
    table: np.ndarray, seen: np.ndarray, rule: str, titles: Sequence[str] | None = None, l2: float = 10.0
) -> np.ndarray:
    """Return the table [n + 1, d] with its empty rows filled by ``rule``; row 0, padding, stays zero.

    ``seen`` [n + 1] marks the ids that train met. Rules: ``zero`` leaves them empty, which a fusion reads
    as the average after standardising; ``mean`` is the mean of the trained rows; ``content`` predicts
    the vector from the title's words by ridge regression on the trained rows (what Gantner et al. 2010
    call an attribute-to-feature mapping), for users, who have no title, it is the mean. Rows that the
    model itself has filled are kept.
    """
    empty = ~seen & ~table.any(axis=1)
    empty[0] = False
    trained = np.flatnonzero(seen & table.any(axis=1))
    if rule == "zero" or not empty.any() or not len(trained):
        return table
    filled = table.copy()
    if rule == "content" and titles is not None:
        filled[empty] = _from_titles(table, trained, np.flatnonzero(empty), titles, l2)
    else:
        filled[empty] = table[trained].mean(axis=0)
    return filled


def _from_titles(
    table: np.ndarray, known: np.ndarray, wanted: np.ndarray, titles: Sequence[str], l2: float
) -> np.ndarray:
    """Ridge regression of vectors on the words of titles; a title of unknown words gets the mean. [len(wanted), d]"""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import Ridge

    words = CountVectorizer(binary=True, token_pattern=WORDS)
    try:
        features = words.fit_transform([titles[i] for i in known])
    except ValueError:  # not one word in any title
        features, mean = sparse.csr_matrix((len(known), 1)), table[known].mean(axis=0)
        return np.broadcast_to(mean, (len(wanted), table.shape[1]))
    mean = table[known].mean(axis=0)
    # no intercept: the mean is taken off, so that a title without a known word is the average item
    model = Ridge(alpha=l2, fit_intercept=False, solver="sparse_cg", tol=1e-6).fit(features, table[known] - mean)
    return model.predict(words.transform([titles[i] for i in wanted])) + mean
