"""``ckf inspect``: examples as the model gets them, made by the very code that training uses."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ckf.config.schema import ExperimentConfig
from ckf.core.errors import DataError
from ckf.data.example_table import Example, ExampleTable
from ckf.prompts.encode import SLOT_TOKEN, Prompt, PromptEncoder

_WIDTH = 110


@dataclass(frozen=True)
class Request:
    """Which examples to show: ``n`` of each task (every task of the mix where None), or one by its id.

    ``slots``: the prompt with slots or the text-only one; None: whichever the fusion of the config uses.
    """

    task: str | None = None
    n: int = 3
    split: str = "train"
    slots: bool | None = None
    example: str | None = None


def inspect_examples(
    exp: ExperimentConfig, dataset: Path, examples: Path, tokenizer: str, request: Request
) -> Iterator[str]:
    """Lines that show the requested examples.

    Raises:
        DataError: no example of that task, split or id.
    """
    from ckf.assembly import Inputs, build_collators, task_names
    from ckf.model.backbone import load_tokenizer

    options = {name: getattr(exp.backbone, name, None) for name in ("revision", "trust_remote_code")}
    loaded = load_tokenizer(tokenizer, options["revision"], bool(options["trust_remote_code"]))
    encoder = build_collators(exp, Inputs(dataset, examples, tokenizer, None), loaded).encoder
    slots = exp.fusion.fuses if request.slots is None else request.slots
    path = examples / "examples.parquet"
    if request.example:
        tasks, split, n = [request.example.split("/")[0]], request.example.split("/")[1], None
    else:
        tasks, split, n = [request.task] if request.task else task_names(exp), request.split, request.n
    for task in tasks:
        table = ExampleTable(path, split, [task])
        for index in _chosen(table, task, split, n, request.example):
            yield from show(table[index], encoder, exp, slots=slots)


def _chosen(table: ExampleTable, task: str, split: str, n: int | None, example: str | None) -> list[int]:
    """The named example, or ``n`` spread evenly over the table."""
    if example:
        if example not in table.example_id:
            near = f", e.g. {table.example_id[0]}" if len(table) else ""
            raise DataError(f"example: {example}: no such example ({len(table):,} of {task}/{split}{near})")
        return [table.example_id.index(example)]
    if not len(table):
        raise DataError(f"task={task} split={split}: the dataset has no such example")
    return sorted({int(i) for i in np.linspace(0, len(table) - 1, min(n or 1, len(table)))})


def show(example: Example, encoder: PromptEncoder, exp: ExperimentConfig, *, slots: bool) -> Iterator[str]:
    """One example: text, answer, tokens, label mask, slots, and what was cut."""
    prompt = encoder.encode(example, slots=slots)
    label = encoder.true_label(example)
    answer = [] if prompt.yes_no_positions else encoder.answer_ids(example.task, label)
    kind = "with slots" if slots else "text only"
    yield f"=== {example.example_id}: user {example.user}, item {example.item} ({kind})"
    yield from _field("text", prompt_text(prompt, encoder.tokenizer, example))
    others = len(prompt.yes_no_positions) - 1
    pointwise = f"Yes at the question mark of candidate {example.position + 1}, No at the other {others}"
    yield from _field("answer", pointwise if prompt.yes_no_positions else encoder.tokenizer.decode(answer))
    marked = [
        *token_texts(prompt.token_ids, encoder.tokenizer),
        *(f"[{t}]" for t in token_texts(answer, encoder.tokenizer)),
    ]
    yield from _field("tokens", " ".join(marked))
    yield from _field("ids", " ".join(str(i) if i != SLOT_TOKEN else "slot" for i in (*prompt.token_ids, *answer)))
    before, after = len(prompt.token_ids), len(answer)
    labels = f"0-{before - 1} no label ({before} prompt tokens), {before}-{before + after - 1} answer ({after} tokens)"
    if prompt.yes_no_positions:
        labels = f"{before} prompt tokens, answered after {', '.join(map(str, prompt.yes_no_positions))}"
    yield from _field("labels", labels)
    listed = [
        f"{start} user {example.user}" if kind == "user" else f"{start} item {item} '{encoder.titles[item]}'"
        for start, kind, item in prompt.slots
    ]
    width = f", {encoder.tokens_per_slot} tokens each" if encoder.tokens_per_slot > 1 else ""
    yield from _field("slots", ("; ".join(listed) + width) if listed else "none")
    yield from _field("cut", "; ".join(_cuts(example, prompt, encoder, exp)))
    yield ""


def prompt_text(prompt: Prompt, tokenizer: Any, example: Example) -> str:
    """The prompt as one text, decoded from its tokens; each slot reads ``<user 3>`` or ``<item 7>``."""
    starts = {
        start: f"<user {example.user}>" if kind == "user" else f"<item {item}>" for start, kind, item in prompt.slots
    }
    parts, run = [], []
    for place, token in enumerate(prompt.token_ids):
        if token != SLOT_TOKEN:
            run.append(token)
            continue
        if run:
            parts.append(tokenizer.decode(run))
            run = []
        parts.append(starts.get(place, ""))
    return "".join([*parts, tokenizer.decode(run) if run else ""])


def token_texts(ids: list[int], tokenizer: Any) -> list[str]:
    """Tokens as the vocabulary spells them; a slot position reads ``<slot>``."""
    known = iter(tokenizer.convert_ids_to_tokens([i for i in ids if i != SLOT_TOKEN]))
    return ["<slot>" if i == SLOT_TOKEN else next(known) for i in ids]


def _cuts(example: Example, prompt: Prompt, encoder: PromptEncoder, exp: ExperimentConfig) -> Iterator[str]:
    limit = exp.train.max_length_tokens
    if "review" not in exp.task_set[example.task].placeholders:
        dropped = [encoder.titles[item] for item in example.history[: prompt.history_cut]]
        names = f": {', '.join(dropped)}" if dropped else ""
        yield f"{len(dropped)} of {len(example.history)} history items left out to fit {limit} tokens{names}"
        if len(example.history) >= exp.tasks.history_items:
            yield f"history holds the last {len(example.history)} (tasks.history_items)"
    elif example.review and len(example.review.split()) >= exp.tasks.review_words:
        yield f"review ends at {exp.tasks.review_words} words (tasks.review_words)"
    else:
        yield "nothing"


def _field(name: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{name if not number else '':<7} {line}" for number, line in enumerate(lines)]
