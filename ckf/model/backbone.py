"""Loading a frozen causal language model and its tokenizer, from a folder or a hub name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ckf.errors import ArtifactError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


def load_tokenizer(path: str | Path, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer of a backbone.

    Raises:
        ArtifactError: nothing there that ``transformers`` can read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(path), revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"backbone.path: no tokenizer could be loaded from '{path}' ({_first_line(error)})"
        ) from None


def load_backbone(
    path: str | Path,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    attention: str = "sdpa",
) -> Any:
    """Load a causal LM, frozen, without its cache.

    Raises:
        ArtifactError: it cannot be loaded, or its family is not one of `FAMILIES`.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(str(path), **options)
        if config.model_type not in FAMILIES:
            raise ArtifactError(
                f"backbone.path: '{path}' is of family '{config.model_type}', which is not supported; "
                f"supported: {', '.join(FAMILIES)}"
            )
        model = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=getattr(torch, dtype), attn_implementation=attention, **options
        )
    except (OSError, ValueError) as error:
        raise ArtifactError(f"backbone.path: no model could be loaded from '{path}' ({_first_line(error)})") from None
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


@torch.no_grad()
def embedding_norm(model: Any) -> float:
    """Mean Euclidean norm of the vectors that words enter the first layer with; slots start at this norm.

    It is that of the embedding layer's output, not of its weights: Gemma's multiplies them by sqrt(hidden_size).
    """
    embed = model.get_input_embeddings()
    total, count = 0.0, embed.weight.shape[0]
    for ids in torch.arange(count, device=embed.weight.device).split(8192):
        total += float(embed(ids).float().norm(dim=1).sum())
    return total / count


def vocabulary_logits(model: Any, hidden: Tensor) -> Tensor:
    """Logits [A, V] in fp32 of hidden states [A, d], soft-capped where the backbone does so (Gemma 2)."""
    logits: Tensor = model.get_output_embeddings()(hidden).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
