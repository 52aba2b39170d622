"""Tables of what was measured besides: rankings under further protocols, and written reviews."""

from __future__ import annotations

import re

from ckf.metrics import protocol_tag
from ckf.report.format import SOURCES, Table, number
from ckf.report.load_runs import Run

_MEANINGS = {
    "full": "the whole catalogue in order",
    "slot": "last hidden state against the fused item vectors",
    "gen": "a title written freely",
    "trie": "a title written along the candidates' titles",
}
_NAMES = {"model": "this model", "text": "text-only", "cf": "CF model", "bias": "popularity"}
_RANKED = ("hr@1", "hr@5", "hr@10", "ndcg@10", "mrr")
_TEXT = {
    "bleu1": "BLEU-1", "bleu4": "BLEU-4", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L",
    "distinct1": "distinct-1", "distinct2": "distinct-2", "length": "words", "n": "rows", "unusable": "unusable",
}  # fmt: skip
_WRITERS = {"": "this model", "text/": "text-only", "frequent/": "the item's most frequent sentence",
            "random/": "a training review at random"}  # fmt: skip


def further_tables(run: Run, split: str) -> list[Table]:
    """One table for each further protocol: its name stands in every column, and no column holds another's figures."""
    own = protocol_tag(run.config.ranking)
    found = {match[0] for key in run.metrics if (match := re.search(r"\[[^\]]+\]", key)) and "/topk/" in key}
    tables = []
    for tag in sorted(found - {own}):
        names = [*(f"{name}{tag}" for name in _RANKED), f"n{tag}", f"unusable{tag}"]
        rows = []
        for source in SOURCES:
            values = {name: run.get(f"{split}/topk/{name}", source) for name in names}
            if any(value is not None for value in values.values()):
                cells = [number(v, ".0f" if m.startswith(("n[", "unusable[")) else ".4f") for m, v in values.items()]
                rows.append([_NAMES[source], *cells])
        header = ["", *(f"{name.upper()} {tag}" for name in _RANKED), "lists", "unusable"]
        tables.append(Table(f"topk {tag} ({split}): {_meaning(tag)}", header, rows))
    return tables


def _meaning(tag: str) -> str:
    name = tag.strip("[]")
    if name.startswith("rerank"):
        return f"the first {name.removeprefix('rerank')} retrieved, ordered by the language model"
    return _MEANINGS.get(name, "lists of a file")


def review_table(run: Run, split: str) -> Table:
    """Written reviews against the users' own, with the baselines."""
    tags = sorted({key[key.index("[") :] for key in run.metrics if key.startswith(f"{split}/review/bleu4[")})
    rows = []
    for tag in tags:
        for prefix, name in _WRITERS.items():
            values = {metric: run.metrics.get(f"{prefix}{split}/review/{metric}{tag}") for metric in _TEXT}
            if values["bleu4"] is not None:
                counted = ("n", "unusable", "length")
                cells = [
                    number(v, ".1f" if m == "length" else ".0f" if m in counted else ".4f") for m, v in values.items()
                ]
                rows.append([f"{name} {tag}" if prefix in ("", "text/") else name, *cells])
    return Table(f"written reviews ({split})", ["", *_TEXT.values()], rows)
