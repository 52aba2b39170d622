"""The built-in backbone: a small Llama with its own BPE vocabulary, pre-trained on text of the training split.

It exists so that the whole system runs, and its claims can be tested, on two CPU cores and without
downloads. It is saved as an ordinary ``transformers`` folder and loaded like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm import tqdm

from ckf.config.schema import PretrainConfig, PromptsConfig, TinyBackboneConfig
from ckf.core.rng import generator_for

_PAD, _BOS, _EOS = "<pad>", "<s>", "</s>"
_INTERACTIONS_PER_DOCUMENT = 16


def corpus(dataset: Path, seed: int) -> list[str]:
    """Documents from the training split: titles, histories with Yes and No or with ratings, reviews.

    Only the items' titles come from the whole dataset; every method reads those.
    """
    items = pd.read_parquet(dataset / "items.parquet").set_index("item")["title"]
    columns = ["user", "item", "rating", "click", "review", "split"]
    train = pd.read_parquet(dataset / "interactions.parquet", columns=columns).query("split == 'train'")
    train = train.assign(title=items.loc[train["item"]].to_numpy())
    documents = [str(title) for title in items]
    for _, rows in train.groupby("user", sort=True):
        documents.extend(_history_documents(rows))
    reviewed = train[train["review"].notna() & train["rating"].notna()]
    documents.extend(
        f"Review of {title}: {review}\nRating: {rating:g}"
        for title, review, rating in zip(reviewed["title"], reviewed["review"], reviewed["rating"], strict=True)
    )
    order = generator_for(seed, "pretraining corpus").permutation(len(documents))
    return [documents[i] for i in order]


def _history_documents(rows: pd.DataFrame) -> Iterator[str]:
    """One user's training history in pieces: with Yes and No, with ratings, and the liked titles alone."""
    for start in range(0, len(rows), _INTERACTIONS_PER_DOCUMENT):
        piece = rows.iloc[start : start + _INTERACTIONS_PER_DOCUMENT]
        labels = zip(piece["title"], piece["click"], strict=True)
        yield "; ".join(f"{title}? {'Yes' if click else 'No'}" for title, click in labels)
        if piece["rating"].notna().all():
            yield "; ".join(f"{t}: {r:g}" for t, r in zip(piece["title"], piece["rating"], strict=True))
        if piece["click"].any():
            yield "; ".join(piece.loc[piece["click"] == 1, "title"])


def build_tiny(
    cfg: TinyBackboneConfig, pretrain: PretrainConfig, prompts: PromptsConfig, dataset: Path, seed: int, out: Path
) -> None:
    """Train tokenizer and model and write both to ``out`` as a ``transformers`` folder."""
    documents = corpus(dataset, seed)
    tokenizer = tiny_tokenizer(cfg, prompts, documents)
    model = new_model(cfg, tokenizer, seed)
    pretrain_model(model, _token_stream(tokenizer, documents), pretrain, seed)
    model.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))


def tiny_tokenizer(cfg: TinyBackboneConfig, prompts: PromptsConfig, documents: list[str]) -> Any:
    """The tokenizer of the tiny backbone, for a `corpus` and the wording of the prompts."""
    return train_tokenizer([*documents, *_wording(prompts)], cfg.vocabulary)


def train_tokenizer(documents: list[str], vocabulary: int) -> Any:
    """Train a byte-level BPE tokenizer, which encodes any text without unknown tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_PAD, _BOS, _EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=_PAD, bos_token=_BOS, eos_token=_EOS)


def new_model(cfg: TinyBackboneConfig, tokenizer: Any, seed: int) -> Any:
    """Make a Llama of the given shape with random weights drawn from ``seed``."""
    from transformers import LlamaForCausalLM

    config = tiny_config(cfg, len(tokenizer))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def tiny_config(cfg: TinyBackboneConfig, vocabulary: int) -> Any:
    """The ``transformers`` config of the tiny backbone, for a tokenizer with a vocabulary of that size."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=cfg.hidden_size,
        intermediate_size=cfg.intermediate_size,
        num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads,
        num_key_value_heads=cfg.heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        initializer_range=0.1,  # at this width the default of 0.02 trains too slowly
    )


def pretrain_model(model: Any, stream: np.ndarray, cfg: PretrainConfig, seed: int) -> None:
    """Next-token training on random windows of the token stream, in place."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    rise = max(0.1, 2 / cfg.steps)  # a warm-up of one step divides by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, cfg.learning_rate, total_steps=cfg.steps, pct_start=rise)
    draw = generator_for(seed, "pretraining windows")
    length = min(cfg.length_tokens, len(stream) - 1)
    model.train()
    bar = tqdm(range(cfg.steps), desc="pre-training tiny", unit="step", mininterval=1.0)
    for _ in bar:
        starts = draw.integers(0, len(stream) - length, cfg.batch_size)
        window = torch.from_numpy(stream[starts[:, None] + np.arange(length + 1)])
        logits = model(input_ids=window[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    model.eval()


def _token_stream(tokenizer: Any, documents: list[str]) -> np.ndarray:
    eos = tokenizer.eos_token_id
    ids = tokenizer(documents, add_special_tokens=False)["input_ids"]
    return np.asarray([token for document in ids for token in (*document, eos)], dtype=np.int64)


def _wording(prompts: PromptsConfig) -> list[str]:
    """The wording of the text prompts, repeated so that the vocabulary holds its words whole.

    The slot prompts are left out, so that runs with different slots have the same backbone.
    """
    wordings = [prompts.ctr, prompts.rating, prompts.topk, prompts.explain]
    return [text for wording in wordings for text in (wording.text, " Yes", " No")] * 50
