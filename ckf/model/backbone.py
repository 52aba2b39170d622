"""Load a frozen causal language model and its tokenizer, from a folder or by a hub name."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ckf.config.schema import EAGER_ONLY, FAMILIES
from ckf.core.checkpoint_folder import CONFIG, checkpoint_problem
from ckf.core.errors import ArtifactError, first_line
from ckf.model.lora import AdapterRouting

_HUB_TIMEOUT_S = 5.0


def load_tokenizer(path: str | Path, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer of a backbone.

    Raises:
        ArtifactError: there is nothing that ``transformers`` can read.
    """
    from transformers import AutoTokenizer

    if not Path(path).is_dir():
        find_checkpoint(path, revision)
    try:
        return AutoTokenizer.from_pretrained(str(path), revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"backbone.path: no tokenizer could be loaded from '{path}' ({first_line(error)})"
        ) from None


def find_checkpoint(path: str | Path, revision: str | None = None) -> None:
    """Check that a folder can be a backbone, or that a hub name is in the cache or can be reached.

    One request without retries decides, so that a machine without a network answers in seconds.

    Raises:
        ArtifactError: it cannot; the message names the reason.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if problem := checkpoint_problem(str(path), tokenizer=False):
        raise ArtifactError(f"backbone.path: {problem}")
    if Path(path).is_dir():
        return
    try:
        if isinstance(try_to_load_from_cache(str(path), CONFIG, revision=revision), str):
            return
        get_hf_file_metadata(hf_hub_url(str(path), CONFIG, revision=revision), timeout=_HUB_TIMEOUT_S)
    except HFValidationError:
        raise ArtifactError(f"backbone.path: '{path}' is neither a folder here nor a hub name (owner/name)") from None
    except HfHubHTTPError as error:
        raise ArtifactError(f"backbone.path: the hub refuses '{path}' ({first_line(error)})") from None
    except Exception as error:
        raise ArtifactError(
            f"backbone.path: '{path}' is neither a folder here nor in the hub's cache, and the hub cannot be reached "
            f"({first_line(error)}); download it where there is a network and give its folder"
        ) from None


def load_backbone(
    path: str | Path,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    attention: str = "sdpa",
    quantization: str = "none",
) -> Any:
    """Load a causal language model, frozen, with its key-value cache off.

    Raises:
        ArtifactError: it cannot be loaded, its weights are incomplete, its family is not one of
            `FAMILIES`, or it cannot be quantised here.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    find_checkpoint(path, revision)
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(str(path), **options)
        _check_family(path, config, attention)
        if not trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
            raise ArtifactError(
                f"backbone.path: '{path}' brings code of its own for the model, which would be ignored; read it and "
                "set backbone.trust_remote_code=true, or take auto_map out of its config.json"
            )
        model, report = AutoModelForCausalLM.from_pretrained(
            str(path),
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            output_loading_info=True,
            **quantization_options(quantization, dtype),
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"backbone.path: no model could be loaded from '{path}' ({first_line(error)})") from None
    if missing := sorted(report["missing_keys"]):
        raise ArtifactError(
            f"backbone.path: the weights in '{path}' are incomplete: {len(missing)} tensors are missing, "
            f"the first is {missing[0]}"
        )
    if odd := sorted(name for name, buffer in model.named_buffers() if not torch.isfinite(buffer).all()):
        raise ArtifactError(f"backbone.path: loading '{path}' leaves the buffer {odd[0]} with NaN or infinity")
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def _check_family(path: str | Path, config: Any, attention: str) -> None:
    family = config.model_type
    if family not in FAMILIES:
        raise ArtifactError(
            f"backbone.path: '{path}' is of family '{family}', which is not supported; supported: {', '.join(FAMILIES)}"
        )
    if attention == "sdpa" and family in EAGER_ONLY:
        raise ArtifactError(
            f"backbone.attention: family '{family}' caps its attention scores, which sdpa cannot; "
            "use backbone.attention=eager"
        )
    if getattr(config, "use_bidirectional_attention", None):
        raise ArtifactError(f"backbone.path: '{path}' attends in both directions; a causal language model is needed")


def quantization_options(kind: str, dtype: str) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for ``none``, ``8bit`` or ``4bit`` (NF4, doubly quantised).

    Raises:
        ArtifactError: bitsandbytes or a GPU is missing.
    """
    if kind == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ArtifactError(
            f"backbone.quantization={kind}: the package bitsandbytes is not installed; "
            "pip install 'ckf[quant]', or use backbone.quantization=none"
        )
    if not torch.cuda.is_available():
        raise ArtifactError(f"backbone.quantization={kind}: needs a CUDA device and there is none; use none")
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        chosen = BitsAndBytesConfig(load_in_8bit=True)
    else:
        chosen = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    # quantised weights cannot be moved later, so each process loads them on its own device
    return {"quantization_config": chosen, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))}}


def checkpoint_activations(model: Any, routing: AdapterRouting) -> None:
    """Recompute each layer's activations in the backward pass instead of keeping them.

    ``transformers`` does so in training mode alone, and a frozen backbone is in evaluation mode; so the layers
    themselves are set to training mode, but not the modules in them (dropout). Our caches
    (`ckf.model.attention.prefix_cache`) still work: recomputing a layer records the same keys and values again.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": routing.checkpoint_contexts})
    model.disable_input_require_grads()  # only reentrant checkpoints need them
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True
            module._can_checkpoint_with_cache = True


@torch.no_grad()
def embedding_norm(model: Any) -> float:
    """Mean Euclidean norm of word embeddings at the first layer's input; slots start with this norm.

    It is measured at the embedding layer's output: Gemma multiplies the weights by sqrt(hidden_size) there.
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
