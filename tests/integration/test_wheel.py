"""The installed wheel carries its config: it works outside a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    built = run([sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path / "dist")], ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("ckf-*.whl")
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), str(wheel)]
    installed = run(install, tmp_path)
    assert installed.returncode == 0, installed.stderr
    assert (target / "ckf/conf/config.yaml").is_file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = "import ckf; print(ckf.__file__)"
    where = run([sys.executable, "-c", script], elsewhere, PYTHONPATH=str(target))
    assert Path(where.stdout.strip()).is_relative_to(target)
    for arguments, said in ((["check"], "config ok: split=temporal"), (["check", "--all"], "options, 0 sweeps")):
        done = run([sys.executable, "-m", "ckf", *arguments], elsewhere, PYTHONPATH=str(target))
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
    refused = run([sys.executable, "-m", "ckf", "lora.rnak=3"], elsewhere, PYTHONPATH=str(target))
    assert (refused.returncode, refused.stderr) == (2, "ckf: lora.rnak: unknown key; did you mean 'lora.rank'?\n")
