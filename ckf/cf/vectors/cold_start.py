"""Vectors of cold ids: zero, the mean, predicted from the title, or one learned for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.special import expit

WORDS = r"(?u)\b\w+\b"


_ROWS = 500_000  # enough for the numbers of one vector


def impute_cold(
    table: np.ndarray,
    seen: np.ndarray,
    rule: str,
    titles: Sequence[str] | None = None,
    l2: float = 10.0,
    null: np.ndarray | None = None,
) -> np.ndarray:
    """Return the table [n + 1, d] with its empty rows filled by ``rule``; row 0, padding, stays zero.

    ``seen`` [n + 1] marks the ids that train met. Rules: ``zero`` leaves them empty, which a fusion reads
    as the average after standardising; ``mean`` is the mean of the trained rows; ``content`` predicts
    the vector from the title's words by ridge regression on the trained rows (what Gantner et al. 2010
    call an attribute-to-feature mapping), for users, who have no title, it is the mean; ``learned`` is the
    vector ``null`` (`default_vector`). Rows that the model itself has filled are kept.
    """
    empty = ~seen & ~table.any(axis=1)
    empty[0] = False
    trained = np.flatnonzero(seen & table.any(axis=1))
    if rule == "zero" or not empty.any() or not len(trained):
        return table
    filled = table.copy()
    if rule == "learned":
        filled[empty] = null
    elif rule == "content" and titles is not None:
        filled[empty] = _from_titles(table, trained, np.flatnonzero(empty), titles, l2)
    else:
        filled[empty] = table[trained].mean(axis=0)
    return filled


def default_vector(partners: np.ndarray, click: np.ndarray, mean: float, l2: float) -> np.ndarray:
    """Fit one vector for all cold ids: on every training row as if its user (or item) were unknown.

    Logistic regression of ``click`` [n] on the vectors of the rows' items (or, for items, of their users)
    ``partners`` [n, d + 1], whose last number is a bias: the score is ``mean + null v + d_null + d_v``, with
    an L2 penalty of ``l2`` / 2 times the squared norm added to the summed loss. [d + 1]
    """
    from scipy.optimize import minimize

    few = slice(None, None, max(1, len(click) // _ROWS))
    offset = mean + partners[few, -1].astype(np.float64)
    factors = np.concatenate([partners[few, :-1], np.ones((len(offset), 1))], axis=1).astype(np.float64)
    signs = 2.0 * (click[few] > 0) - 1.0

    def loss(null: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signs * (offset + factors @ null)
        value = np.logaddexp(0.0, -margin).sum() + 0.5 * l2 * null @ null
        return float(value), l2 * null - factors.T @ (signs * expit(-margin))

    found = minimize(loss, np.zeros(factors.shape[1]), jac=True, method="L-BFGS-B")
    return found.x.astype(np.float32)


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
