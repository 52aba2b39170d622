"""``ckf recommend`` as text."""

from __future__ import annotations

from ckf.inference.predictor import Predictor
from ckf.report.table import MISSING, Table, markdown_table, number


def recommendation(trained: Predictor, user: str, top: int = 10, rerank: int = 100, *, seen: bool = False) -> str:
    """Recommend items for a user; the text also names how they were scored."""
    found = trained.recommend(user, top, rerank=rerank, seen=seen)
    if found.attrs["known"]:
        past = "; ".join(found.attrs["history"]) or "nothing liked yet"
        text = f"user {user}, who liked last: {past}\n\n"
    else:
        text = f"user {user}: unknown, none of the data's ids ({trained.known.user_id_examples}, …); "
        text += "recommended to as a new user (no history, no vector)\n\n"
    columns = {"score": "score", "rating": "expected rating", **({"why": "why"} if "why" in found else {})}
    rows = [
        [str(place), title, str(item), *(_cell(value) for value in values)]
        for place, title, item, *values in found[["place", "title", "item", *columns]].itertuples(index=False)
    ]
    return text + markdown_table(Table("", ["", "title", "item", *columns.values()], rows)) + f"\n\n{_how(trained)}\n"


def _cell(value: object) -> str:
    return (number(value) if isinstance(value, float) else str(value)) or MISSING


def _how(trained: Predictor) -> str:
    if trained.model is None:
        return f"score: the CF model's ({trained.exp.cf.name})"
    liked = any(entry.task.item_score == "score" for entry in trained.exp.task_mix)
    task = "the probability of a Yes" if liked else "the expected rating"
    return f"retrieved by the CF model ({trained.exp.cf.name}), ordered by the language model: {task}"
