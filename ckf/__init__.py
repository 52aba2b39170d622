"""ckf: fine-tune large language models into recommenders that also know collaborative filtering.

Use a finished run from Python (``run`` is its folder; see `ckf.inference.predictor.Predictor`):

>>> import ckf
>>> model = ckf.load(run)
>>> best = model.recommend(user="u7", top=3)
>>> list(best.columns)
['place', 'item', 'title', 'score', 'rating']
>>> list(best["place"])
[1, 2, 3]
>>> model.recommend(user="nobody", top=3).attrs["known"]
False
>>> rows = [{"task": "ctr", "user": "u7", "item": "i3"}, {"task": "rating", "user": "u7", "item": "i3"}]
>>> scores = model.predict(rows)
>>> [(row, task) for row, task in zip(scores["row"], scores["task"])]
[(1, 'ctr'), (2, 'rating')]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckf.inference.predictor import Predictor

__version__ = "0.1.0"


def load(run: str | Path, cache: str | Path | None = None) -> Predictor:
    """Load a finished run from its folder, or a bundle (``ckf export format=bundle``).

    ``cache`` is where the run's artifacts are, if not where they were when it was made, nor moved with it.

    Raises:
        ArtifactError: it is none, or a file of it, its data or its backbone is missing or altered.
    """
    from ckf.inference.predictor import Predictor  # torch and transformers take seconds

    return Predictor.load(Path(run), None if cache is None else Path(cache))
