"""What `ckf inspect` shows: the prompt as it is encoded, every token once, the answer marked, slots and cuts named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ckf.cli.inspection import Request, inspect_examples, prompt_text, show, token_texts
from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig
from ckf.core.errors import DataError
from ckf.data.example_table import Example
from ckf.prompts.encode import PromptEncoder
from tests.conftest import TASKS, make_example
from tests.worlds import small_source, write_world


@pytest.fixture(scope="module")
def exp() -> ExperimentConfig:
    return compose([])[0]


def field(lines: list[str], name: str) -> str:
    """A field's text with its continuation lines."""
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{name} "))
    stop = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("        "))
    return " ".join(line[8:] for line in lines[start:stop])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("slots", [True, False])
def test_every_token_is_shown_and_the_answer_is_marked(
    task: str, slots: bool, encoder: PromptEncoder, exp: ExperimentConfig
) -> None:
    example = make_example(task, 1)
    prompt, answer = encoder.encode(example, slots=slots), encoder.answer_ids(task, encoder.true_label(example))
    lines = list(show(example, encoder, exp, slots=slots))
    ids = ["slot" if i < 0 else str(i) for i in (*prompt.token_ids, *answer)]
    assert field(lines, "ids").split() == ids
    tokens = field(lines, "tokens").split(" ")
    assert sum(token.startswith("[") and token.endswith("]") for token in tokens) == len(answer)
    assert tokens.count("<slot>") == ids.count("slot") == len(prompt.slots)
    n = len(prompt.token_ids)
    assert field(lines, "labels") == (
        f"0-{n - 1} no label ({n} prompt tokens), {n}-{n + len(answer) - 1} answer ({len(answer)} tokens)"
    )
    assert (field(lines, "slots") == "none") == (not slots)


def test_the_text_is_the_prompt_with_its_slots_named(encoder: PromptEncoder, exp: ExperimentConfig) -> None:
    example = make_example("ctr", 0)
    text = prompt_text(encoder.encode(example, slots=True), encoder.tokenizer, example)
    assert f"<user {example.user}><item {example.item}>" in text
    plain = prompt_text(encoder.encode(example, slots=False), encoder.tokenizer, example)
    assert re.sub(r" ?<(user|item) \d+>", "", text) == plain
    assert encoder.titles[example.item] in plain
    assert token_texts([-1, -1], encoder.tokenizer) == ["<slot>", "<slot>"]


def test_what_was_cut_is_named(encoder: PromptEncoder, exp: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    example: Example = make_example("ctr", 3)
    whole = len(encoder.encode(example, slots=False).token_ids)
    monkeypatch.setattr(encoder, "max_length_tokens", whole)
    cut = encoder.encode(example, slots=False).history_cut
    assert cut > 0
    said = field(list(show(example, encoder, exp, slots=False)), "cut")
    titles = ", ".join(encoder.titles[i] for i in example.history[:cut])
    assert said.startswith(f"{cut} of {len(example.history)} history items left out to fit ")
    assert said.endswith(titles)


def test_examples_are_chosen_by_task_split_and_id(tmp_path: Path, backbone_folder: Path) -> None:
    exp = compose(["tasks.history_items=5", "tasks.candidates=5"])[0]
    dataset, examples = write_world(tmp_path, small_source())

    def heads(request: Request) -> list[str]:
        lines = inspect_examples(exp, dataset, examples, str(backbone_folder), request)
        return [line.split(":")[0].removeprefix("=== ") for line in lines if line.startswith("===")]

    every = heads(Request(n=2, split="test"))
    assert [name.split("/")[0] for name in every] == ["ctr", "ctr", "rating", "rating", "topk", "topk"] + [
        "explain"
    ] * 2
    assert all(name.split("/")[1] == "test" for name in every)
    assert heads(Request(example=every[3])) == [every[3]]
    assert len(heads(Request(task="topk", n=3))) == 3
    with pytest.raises(DataError, match=r"example: ctr/test/1-999: no such example \(\d+ of ctr/test, e.g. ctr/test/"):
        heads(Request(example="ctr/test/1-999"))
