"""Files of an artifact: readable by whoever the umask allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ckf.core.artifact_store import Store, new_folder


@pytest.fixture(params=[0o022, 0o027, 0o002], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def build(out: Path) -> None:
    save_file({"x": torch.zeros(1)}, out / "x.safetensors")
    (out / "deep").mkdir()
    save_file({"x": torch.zeros(1)}, out / "deep" / "x.safetensors")
    (out / "plain.txt").write_text("")


def test_weights_and_folders_get_the_modes_of_new_ones(tmp_path, umask):
    """safetensors writes 0600 and mkdtemp 0700, so that a colleague could read a cache but for its weights."""
    made = Store(tmp_path).get("stage", "name", {}, [], build).path
    modes = {path.name: path.stat().st_mode & 0o777 for path in (made, *made.rglob("*"))}
    files = {modes.pop(name) for name in ("x.safetensors", "plain.txt", "artifact.json")}
    assert files == {0o666 & ~umask}
    assert set(modes.values()) == {0o777 & ~umask}


def test_a_build_that_fails_leaves_neither_its_folder_nor_a_temporary_one(tmp_path):
    def fails(out: Path) -> None:
        build(out)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).get("stage", "name", {}, [], fails)
    assert [path for path in (tmp_path / "stage").iterdir() if path.is_dir()] == []


def test_a_new_folder_never_takes_the_place_of_one_that_holds_something(tmp_path):
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as inside:
        (inside / "a").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    with pytest.raises(OSError, match="not empty"), new_folder(tmp_path / "out") as inside:
        (inside / "b").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
