"""What unit tests share: random checkpoints and composed options, each made once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from ckf.config import compose as module
from ckf.config.option_groups import Groups
from ckf.model.backbone import load_tokenizer
from tests.unit.model.families import save_checkpoint


@pytest.fixture(scope="session")
def checkpoint(backbone_folder, tmp_path_factory):
    """Folder of the random checkpoint of a kind, made once."""
    tokenizer = load_tokenizer(backbone_folder)
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_checkpoint(kind, tokenizer, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get


Options = tuple[DictConfig, dict[str, str]]


@pytest.fixture(autouse=True, scope="session")
def remember_built_in_options() -> Iterator[None]:
    """Compose the built-in options once for each choice: Hydra takes a tenth of a second for it."""
    original = module._compose_options
    known: dict[tuple[tuple[str, str], ...], Options] = {}

    def remembered(choices: dict[str, str], groups: Groups) -> Options:
        if groups.user_dir is not None:
            return original(choices, groups)
        key = tuple(sorted(choices.items()))
        if key not in known:
            known[key] = original(choices, groups)
        cfg, used = known[key]
        return cfg.copy(), dict(used)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_compose_options", remembered)
        yield
