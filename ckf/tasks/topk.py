"""Top-K ranking: which of the candidates comes next? A candidate's score is the log-probability of its title."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckf.metrics import ranking
from ckf.tasks.base import Example, Interactions, Metric, ReleasedRow, Sample, Task, Vocabulary, count_rows
from ckf.tasks.ctr import NO_YES

if TYPE_CHECKING:
    import pandas as pd  # its import takes half a second, and `ckf --help` comes through here

TOP = (1, 5, 10)
"""Lengths of the beginnings of lists whose coverage and popularity are measured."""
ONE_TITLE = ("[gen]", "[trie]")
"""Protocols that name one title: there is no order beyond the first place."""


def _ranks(sample: Sample) -> np.ndarray:
    return sample.column("rank")


def _hit_rate(k: int, *, headline: bool = False, title: str | None = None) -> Metric:
    return Metric(
        f"hr@{k}", lambda s: ranking.hit_rate(_ranks(s), k), headline=headline, main=k == 1, tagged=True,
        needs_order=k > 1, statistic=lambda s: s.mean_of_rows(ranking.hits_at(_ranks(s), k)), title=title,
    )  # fmt: skip


def _ndcg(k: int, *, title: str | None = None) -> Metric:
    return Metric(
        f"ndcg@{k}", lambda s: ranking.ndcg(_ranks(s), k), tagged=True, title=title,
        statistic=lambda s: s.mean_of_rows(ranking.gains_at(_ranks(s), k)),
    )  # fmt: skip


class TopK(Task):
    """Which of the candidates will the user choose next?"""

    listed_by_datasets = True
    lists = True
    cf_output = "rank"
    placeholders = ("history", "candidates")
    required = "candidates"
    each_candidate = ("ctr", NO_YES)
    metrics = (
        _hit_rate(1, headline=True, title="HR@1"),
        _hit_rate(3, title="HR@3"),
        _hit_rate(5, title="HR@5"),
        _ndcg(10, title="NDCG@10"),
        Metric("mrr", lambda s: ranking.mrr(_ranks(s)), main=True, tagged=True, title="MRR",
               statistic=lambda s: s.mean_of_rows(1.0 / _ranks(s))),
        count_rows("lists"),
        _hit_rate(10),
        _ndcg(5),
        Metric("map@10", lambda s: ranking.mean_average_precision(_ranks(s), 10), tagged=True),
    )  # fmt: skip
    released_name = "sequential"

    def wanted(self, rows: Interactions) -> np.ndarray:
        """Liked interactions: each is the target of a list. bool [n]"""
        found: np.ndarray = rows.click == 1
        return found

    def labels(self, example: Example, words: Vocabulary) -> list[str]:
        """The candidates' titles."""
        return [words.titles[item] for item in example.candidates]

    def true_label(self, example: Example, words: Vocabulary) -> str:
        """The target's title."""
        return words.titles[example.item]

    def worst_scores(self, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """An unusable candidate is the last of its list."""
        return np.where(np.isnan(scores), -np.inf, scores)

    def sample(self, rows: pd.DataFrame) -> Sample:
        """One row for each list, with the ``rank`` of its target."""
        return Sample(ranking.list_table(rows))

    def metrics_of_rows(self, rows: pd.DataFrame, tag: str) -> dict[str, float]:
        """Coverage and popularity bias of the first k, for each k below the length of the lists."""
        if rows.empty or "item_n_train" not in rows or "catalogue" not in rows or tag in ONE_TITLE:
            return {}
        longest = int(rows.groupby("example_id").size().max())
        targets = rows.loc[rows["label"].to_numpy(dtype=float) > 0, "item_n_train"].to_numpy()
        found: dict[str, float] = {"catalogue": int(rows["catalogue"].iloc[0])}
        tops = ranking.top_items(rows, max(TOP))
        place = tops.groupby("example_id", sort=False).cumcount()
        for k in (k for k in TOP if k < longest):
            top = tops[place < k]
            found[f"coverage@{k}{tag}"] = ranking.coverage(top["item"].to_numpy(), int(found["catalogue"]))
            found[f"popularity_bias@{k}{tag}"] = ranking.popularity_bias(top["item_n_train"].to_numpy(), targets)
        return found

    def released_prompt(self, row: ReleasedRow) -> tuple[str, Any]:
        """A question answered by a title."""
        choices = "; ".join(row.titled(item) for item in row.candidates)
        text = (
            f"{row.user} liked these items, oldest first: {row.past}. "
            f"Which of these will the user choose next: {choices}? Answer with its title."
        )
        return text, row.titles[row.item]
