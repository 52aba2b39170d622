"""What is wrong with a folder that should hold a language model, found from its file names alone."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG, ADAPTER = "config.json", "adapter_config.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "*.tiktoken")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def checkpoint_problem(path: str, *, tokenizer: bool) -> str | None:
    """The reason why a local path cannot be used as a backbone; None where it can, or where it is a hub name.

    Only file names and ``adapter_config.json`` are read, so the check takes no time and imports nothing.
    A finished run brings its own ``tokenizer``.
    """
    place = Path(path)
    if place.is_file():
        return _file_problem(place)
    if not place.is_dir():
        return f"'{path}': no such file or folder" if _is_path(path) else None
    if not (place / CONFIG).is_file():
        if (place / ADAPTER).is_file():
            return (
                f"'{path}' is a PEFT adapter{_base_model(place)}; give it as lora.init[0].path, and its base model here"
            )
        if ggufs := sorted(file.name for file in place.glob("*.gguf")):
            return f"'{path}' holds {ggufs[0]} and no {CONFIG}; a folder with {CONFIG}, weights and tokenizer is needed"
        return f"'{path}' holds no {CONFIG}; a folder with {CONFIG}, weights and tokenizer is needed"
    if (place / ADAPTER).is_file():
        return (
            f"'{path}' holds {ADAPTER}, so transformers would add that adapter to the frozen model; "
            "merge it (ckf export format=merged), or move it to a folder of its own and give that as lora.init[0].path"
        )
    if not _any(place, _WEIGHTS):
        return f"'{path}' holds no weights (*.safetensors or pytorch_model*.bin)"
    if tokenizer and not _any(place, _TOKENIZERS):
        return f"'{path}' holds no tokenizer (one of {', '.join(_TOKENIZERS)}); copy that of the model into the folder"
    return None


def _file_problem(place: Path) -> str:
    with place.open("rb") as file:
        kind = "a GGUF file" if file.read(4) == b"GGUF" else "a file"
    return f"'{place}' is {kind}; a folder with {CONFIG}, weights and tokenizer is needed"


def _is_path(path: str) -> bool:
    """Whether a text can only be a path: a hub name has at most one slash and does not start with a dot."""
    return path.startswith((".", "/", "~")) or path.count("/") > 1 or path.endswith((".gguf", ".safetensors", ".bin"))


def _any(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(folder.glob(pattern), None) is not None for pattern in patterns)


def _base_model(folder: Path) -> str:
    try:
        base = json.loads((folder / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return ""
    return f" of '{base}'" if base else ""
