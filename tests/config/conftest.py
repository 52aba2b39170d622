"""Composing takes Hydra a tenth of a second; here the built-in options are composed once for each choice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from omegaconf import DictConfig

from ckf.config import compose as module
from ckf.config.option_groups import Groups

Options = tuple[DictConfig, dict[str, str]]


@pytest.fixture(autouse=True, scope="session")
def remember_built_in_options() -> Iterator[None]:
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
