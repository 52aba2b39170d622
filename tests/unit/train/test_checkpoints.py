"""Checkpoint files: the last two are kept, and none is trusted before its bytes are checked."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from ckf.core.errors import CkfError
from ckf.train.checkpoints import CheckpointFiles, inspect_checkpoint
from ckf.train.graceful_stop import StopRequest


@pytest.fixture
def files(tmp_path) -> CheckpointFiles:
    files = CheckpointFiles(tmp_path)
    files.last.parent.mkdir()
    return files


def write(files: CheckpointFiles, step: int) -> None:
    torch.save({"global_step": step, "state_dict": {"a": torch.arange(1000.0)}}, files.writing)
    files.promote()


def test_the_last_two_are_kept_and_the_newest_is_found(files):
    said: list[str] = []
    assert files.newest(said.append) == (None, 0)
    for step in (1, 2, 3):
        write(files, step)
    assert files.newest(said.append) == (files.last, 3)
    assert inspect_checkpoint(files.previous) == (None, 2)
    assert not files.writing.exists()
    assert not said


@pytest.mark.parametrize("damage", ["a flipped byte", "cut short", "empty", "not a checkpoint"])
def test_a_damaged_last_one_falls_back_to_the_one_before_and_says_so(files, damage):
    write(files, 4)
    write(files, 8)
    content = bytearray(files.last.read_bytes())
    content[len(content) // 2] ^= 0xFF  # inside the tensor, where torch.load sees nothing wrong
    files.last.write_bytes(
        {"a flipped byte": bytes(content), "cut short": bytes(content[:900]), "empty": b""}.get(damage, b"x" * 5000)
    )
    said: list[str] = []
    assert files.newest(said.append) == (files.previous, 4)
    assert "last.ckpt" in said[0]
    assert "continuing from the one before, step 4" in said[0]


def test_a_kill_between_the_two_renames_loses_nothing(files):
    write(files, 4)
    os.replace(files.last, files.previous)  # the first rename of promote() is done, the second is not
    assert files.newest(print) == (files.previous, 4)


def test_without_a_whole_checkpoint_the_run_stops(files):
    write(files, 4)
    files.last.write_bytes(b"")
    with pytest.raises(CkfError, match=r"last\.ckpt: unreadable.*overwrite=true"):
        files.newest(print)


def test_the_first_signal_asks_and_the_handlers_come_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    stop.listen()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        stop.restore()
    assert signal.getsignal(signal.SIGTERM) == before
    assert "SIGTERM: saving after this step" in capsys.readouterr().err
