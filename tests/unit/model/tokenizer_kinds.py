"""Five kinds of tokenizers, each trained by the tests on a few words with the ``tokenizers`` library."""

from __future__ import annotations

import string
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.conftest import TITLES

ASCII = sorted(set(string.printable))
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
_WORDS = "Liked: Rated: Next: Choose: Answer: Rating: Review: For good bad nothing yet. ; , ( ) 1 2 3 4 5 Yes No"
_TEXT = [*TITLES, _WORDS, "\n"] * 6


def _fast(model: Tokenizer, **names: Any) -> Any:
    tokens = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", **names}
    return PreTrainedTokenizerFast(tokenizer_object=model, **tokens)


def byte_level() -> Any:
    """GPT and Qwen: bytes, no BOS."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(_TEXT, trainer)
    return _fast(model)


def byte_level_with_bos() -> Any:
    """Llama 3: the same, and a post-processor puts BOS in front of whole texts."""
    tokenizer = byte_level()
    model = tokenizer.backend_tokenizer
    model.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _fast(model, bos_token="<s>")


def sentencepiece() -> Any:
    """Llama 2, Vicuna and Gemma: pieces with a mark for spaces that is also put before the first word; BOS."""
    model = Tokenizer(models.Unigram())
    model.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    model.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    trainer = trainers.UnigramTrainer(
        vocab_size=260, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False, initial_alphabet=ASCII
    )
    model.train_from_iterator(_TEXT, trainer)
    model.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _fast(model, bos_token="<s>")


def word_piece() -> Any:
    """BERT-like: words and their continuations; spaces and line breaks are lost; an end token after whole texts."""
    model = Tokenizer(models.WordPiece(unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
    model.train_from_iterator(_TEXT, trainer)
    model.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return _fast(model)


def characters() -> Any:
    """A token for each character: "Yes" is three, " 5" is two."""
    letters = sorted({letter for text in _TEXT for letter in text} | {" "})
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    model = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    model.decoder = decoders.Fuse()
    return _fast(model)


KINDS = {kind.__name__: kind for kind in (byte_level, byte_level_with_bos, sentencepiece, word_piece, characters)}

_TURNS = (
    "{{% for m in messages %}}{open}{{{{ m.role }}}}{middle}{{{{ m.content | trim }}}}{close}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{open}assistant{middle}{{% endif %}}"
)
CHATS = {
    "llama3": (
        "{{ bos_token }}" + _TURNS.format(open="<|start|>", middle="<|end|>\n\n", close="<|eot_id|>"),
        ["<|start|>", "<|end|>", "<|eot_id|>"],
        "<|eot_id|>",
    ),
    "gemma": (
        "{{ bos_token }}" + _TURNS.format(open="<start_of_turn>", middle="\n", close="<end_of_turn>\n"),
        ["<start_of_turn>", "<end_of_turn>"],
        "<end_of_turn>",
    ),
    "qwen": (
        _TURNS.format(open="<|im_start|>", middle="\n", close="<|im_end|>\n"),
        ["<|im_start|>", "<|im_end|>"],
        "<|im_end|>",
    ),
    "llama2": (
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}",
        [],
        "</s>",
    ),
}
"""Chat templates in the manner of known families: the template, its control tokens, what ends a turn."""


def with_chat(tokenizer: Any, kind: str) -> Any:
    """The tokenizer with a chat template and the template's control tokens."""
    template, control, _ = CHATS[kind]
    if tokenizer.bos_token is None:
        tokenizer.bos_token = "<s>"
    tokenizer.add_special_tokens({"additional_special_tokens": control})
    tokenizer.chat_template = template
    return tokenizer
