"""The dataset card (`card.md`): the manifest as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_BARS = {
    "ratings": "Ratings",
    "interactions_per_user": "Users by their number of interactions",
    "interactions_per_item": "Items by their number of interactions",
    "history_lengths": "Interactions by the length of their history, before it is cut",
}
_DEFINED = """\
Liked is {liked}; days are in UTC. Warm and cold go by training rows alone: `warm seen` has its user and its item
in train, `warm 3` each at least three times; cold users and items are those that train never saw."""


def card_text(manifest: Mapping[str, Any]) -> str:
    """The dataset card, from the manifest."""
    sections = [
        [f"# Dataset card: {manifest['dataset']}"],
        [f"- {key}: {manifest[key]}" for key in ("source", "licence", "citation") if manifest.get(key)],
        *_warnings(manifest["warnings"]),
        ["## Rows left after each step"],
        _table(["after", "rows", "users", "items"], [list(step.values()) for step in manifest["steps"]]),
        _bad_lines(manifest["bad_rows"], manifest["rows_read"]),
        _duplicate_lines(manifest["duplicates"]),
        [f"## Split: {manifest['split']}{_settings(manifest['split_settings'])}"],
        _split_lines(manifest["splits"], timed=manifest["times"] == "seconds"),
        [_DEFINED.format(liked=manifest["liked"])],
        ["## Size"],
        _size(manifest),
        *_histograms(manifest),
        ["## Titles"],
        _listed(manifest["titles"]),
        ["## Notes of the reader"],
        _listed(manifest["reader"]),
        ["## Source files (SHA-256)"],
        [f"- `{name}`: {digest}" for name, digest in manifest["files"].items()] or ["none: the data is made"],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _size(manifest: Mapping[str, Any]) -> list[str]:
    first, last = (_day(manifest[f"{end}_timestamp"]) for end in ("first", "last"))
    when = f" from {first} to {last}" if manifest["times"] == "seconds" else ""
    at_once = manifest["rows_at_the_same_second_as_another_of_the_user"]
    return [
        f"{manifest['interactions']:,} interactions of {manifest['users']:,} users with {manifest['items']:,} items"
        f"{when}; {100 * manifest['sparsity']:.3f}% of all pairs are empty.",
        f"{manifest['reviews']:,} have a review; {at_once:,} share their second with another of the same user.",
    ]


def _histograms(manifest: Mapping[str, Any]) -> list[list[str]]:
    return [
        lines for key, title in _BARS.items() if manifest[key] for lines in ([f"### {title}"], _bars(manifest[key]))
    ]


def _settings(values: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{key}={value}' for key, value in values.items())})" if values else ""


def _bad_lines(bad: Mapping[str, Any], read: int) -> list[str]:
    text = f"Rows that could not be used: {bad['total']:,} of {read:,} (dataset.max_bad_rows={bad['allowed']})."
    rows = [[kind, found["count"], "; ".join(found["first"])] for kind, found in bad["kinds"].items()]
    return [text, "", *_table(["kind", "rows", "first of them"], rows)] if rows else [text]


def _duplicate_lines(found: Mapping[str, Any]) -> list[str]:
    return [
        f"Repeated (user, item) pairs: {found['exact_copies_dropped']:,} exact copies and "
        f"{found['other_repeats_dropped']:,} others dropped (dataset.duplicates={found['policy']})."
    ]


def _warnings(lines: list[str]) -> list[list[str]]:
    return [["## Warnings"], [f"- {line}" for line in lines]] if lines else []


def _split_lines(parts: Mapping[str, Any], *, timed: bool) -> list[str]:
    heads = ["interactions", "users", "items", "liked_share", "warm_seen", "warm_3", "cold_users", "cold_items"]
    ends = ("first", "last") if timed else ()
    rows = [
        [name, *(part[head] for head in heads), *(_day(part[f"{end}_timestamp"]) for end in ends)]
        for name, part in parts.items()
    ]
    return _table(["split", *(head.replace("_", " ") for head in heads), *(f"{end} day" for end in ends)], rows)


def _table(heads: list[str], rows: list[list[Any]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(_cell(value) for value in line) + " |" for line in lines]


def _cell(value: Any) -> str:
    return _text(value).replace("|", "\\|").replace("\n", " ")


def _bars(counts: Mapping[str, int]) -> list[str]:
    most = max(counts.values())
    width = max(len(name) for name in counts)
    bars = [f"{name:>{width}}  {'█' * round(40 * n / most)} {n:,}" for name, n in counts.items()]
    return ["```", *bars, "```"]


def _listed(values: Mapping[str, Any]) -> list[str]:
    """One line for each value; what is missing or empty is left out."""
    shown = {_words(key): _text(value) for key, value in values.items() if value not in (None, [], {})}
    return [f"- {key}: {text}" for key, text in shown.items()] or ["nothing"]


def _words(key: str) -> str:
    return key.replace("_", " ").replace(" raw id instead", ", raw id instead")


def _text(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    return "; ".join(map(_text, value)) if isinstance(value, list) else str(value)


def _day(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d")
