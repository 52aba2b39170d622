"""The model files of a run: adapters (PEFT), fusion (safetensors), tokenizer. The backbone is not copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from ckf.core.artifact_store import read_json, set_usual_modes, write_json
from ckf.core.errors import ArtifactError
from ckf.model.peft_io import load_adapters, save_adapters
from ckf.model.recommender import Recommender

FUSION_WEIGHTS, FUSION_METADATA = "fusion.safetensors", "fusion.json"


def save_model(model: Recommender, tokenizer: Any, backbone: str, run: Path, weights: str | None = None) -> None:
    """Write adapters, the whole fusion (normalization included) and the tokenizer to the run.

    ``weights`` is the content of the backbone, for the adapters (`ckf.model.peft_io.save_adapters`).
    """
    save_adapters(run / "adapters", model.layers, model.adapters, backbone, weights)
    if model.fusion is not None:
        state = {name: value.detach().cpu().contiguous() for name, value in model.fusion.state_dict().items()}
        save_file(state, run / FUSION_WEIGHTS)
        write_json(
            run / FUSION_METADATA,
            {
                "class": type(model.fusion).__name__,
                "cf_dim": model.fusion.cf_dim,
                "llm_dim": model.fusion.llm_dim,
                "tokens_per_slot": model.fusion.tokens_per_slot,
                "slots": list(model.fusion.slots),
                "parameters": sum(p.numel() for p in model.fusion.parameters()),
                "parameters_by_part": model.fusion.parameter_counts(),
            },
        )
    tokenizer.save_pretrained(str(run / "tokenizer"))
    set_usual_modes(run)


def load_model(model: Recommender, run: Path) -> None:
    """Restore adapters and fusion of a run into a freshly built model.

    Raises:
        ArtifactError: a file or tensor is missing or does not fit.
    """
    load_adapters(run / "adapters", model.layers, model.adapters)
    if model.fusion is None:
        return
    saved = read_json(run / FUSION_METADATA)
    got = (model.fusion.cf_dim, model.fusion.llm_dim)
    if (saved["cf_dim"], saved["llm_dim"]) != got:
        raise ArtifactError(
            f"{run / FUSION_METADATA}: made for CF width {saved['cf_dim']} and backbone width {saved['llm_dim']}, "
            f"got {got}"
        )
    path = run / FUSION_WEIGHTS
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    try:
        model.fusion.load_state_dict(load_file(path), strict=True)
    except RuntimeError as error:
        raise ArtifactError(
            f"{path}: does not fit {type(model.fusion).__name__} ({str(error).splitlines()[-1].strip()})"
        ) from None
