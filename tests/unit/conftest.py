"""What unit tests share: random checkpoints of every family, each made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

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
