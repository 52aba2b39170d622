"""The tokens around a prompt: BOS or an instruct model's chat template, and the token that ends an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckf.core.errors import DataError, first_line

_PROMPT, _ANSWER = "CKFPROMPT", "CKFANSWER"
_FIXED = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""Answers are scored, so there is no thinking before them; today's date would change the prompts every day."""


@dataclass(frozen=True)
class PromptWrapper:
    """Token ids ``before`` a prompt, the text ``after`` it, and the token that ends an answer.

    ``own_turn``: the answer opens a turn of its own, so there is no space before its first word.
    """

    before: list[int]
    after: str
    terminator: int
    own_turn: bool


def plain_wrapper(tokenizer: Any) -> PromptWrapper:
    """Leave the prompt as it is: after BOS where the tokenizer puts one, with answers ended by EOS.

    Raises:
        DataError: the tokenizer has no EOS.
    """
    if tokenizer.eos_token_id is None:
        raise DataError(f"{_named(tokenizer)}: has no end-of-sequence token; answers need one")
    plain = tokenizer("a")["input_ids"]
    bos = tokenizer.bos_token_id
    before = [bos] if plain and plain[0] == bos is not None else []
    return PromptWrapper(before, "", int(tokenizer.eos_token_id), own_turn=False)


def chat_wrapper(tokenizer: Any) -> PromptWrapper:
    """Make the prompt the user's turn of the tokenizer's own chat template, and the answer the assistant's.

    The terminator is the token that the template puts after the assistant's words (``<|eot_id|>``,
    ``<end_of_turn>``, ``<|im_end|>``, ``</s>``): it is often not the tokenizer's EOS.

    Raises:
        DataError: there is no template, or it changes the user's words.
    """
    if not tokenizer.chat_template:
        raise DataError(f"{_named(tokenizer)}: has no chat template; use backbone.chat_template=none")
    user = {"role": "user", "content": _PROMPT}
    try:
        prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True, **_FIXED)
        answered = tokenizer.apply_chat_template(
            [user, {"role": "assistant", "content": _ANSWER}], tokenize=False, **_FIXED
        )
    except Exception as error:  # a template is a program of its own: anything may come out of it
        raise DataError(f"{_named(tokenizer)}: its chat template fails ({first_line(error)})") from None
    before, mark, after = prompt.partition(_PROMPT)
    _, answer_mark, end = answered.partition(_ANSWER)
    if not mark or not answer_mark or _PROMPT in after:
        raise DataError(f"{_named(tokenizer)}: its chat template does not show each turn's words once, as they are")
    ids = tokenizer(before, add_special_tokens=False)["input_ids"] if before else []
    return PromptWrapper(ids, after, _terminator(tokenizer, end), own_turn=True)


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Ids of the tokenizer's control tokens (ends, turns, padding) by their text; not of the unknown token."""
    tokens = {token.content: int(number) for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {text: number for text, number in tokens.items() if number != tokenizer.unk_token_id}


def _terminator(tokenizer: Any, end: str) -> int:
    """The first control token of the text after an answer, else EOS."""
    control = set(control_tokens(tokenizer).values())
    for token in tokenizer(end, add_special_tokens=False)["input_ids"] if end else []:
        if token in control:
            return int(token)
    if tokenizer.eos_token_id is None:
        raise DataError(f"{_named(tokenizer)}: nothing ends an assistant's turn, neither its template nor an EOS")
    return int(tokenizer.eos_token_id)


def _named(tokenizer: Any) -> str:
    return f"tokenizer {tokenizer.name_or_path}".strip()
