"""The pages of docs/: the one made from the configs is current, and commands and links of all of them are real."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ckf.cli.main import VERBS
from ckf.config.option_groups import load_groups

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "experiments").glob("*/README.md")])


@pytest.mark.slow
def test_the_page_of_options_is_current() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/make_configuration.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "run `make docs`"


def test_every_option_stands_on_the_page_of_options() -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    missing = [
        f"{group}={option}"
        for group, options in load_groups().options.items()
        for option in options
        if f"`{group}={option}`" not in text
    ]
    assert not missing, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def commands(page: Path) -> list[str]:
    """The ckf commands of a page's code blocks, continued lines joined."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0] for line in lines if re.match(r"(\S+=\S+ )*ckf ", line)]


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_keys_of_its_commands_exist(page: Path) -> None:
    """Verbs, groups, options and keys; values are the reader's."""
    known = {f"{group}={option}" for group, options in load_groups().options.items() for option in options}
    for line in commands(page):
        words = shlex.split(line)
        words = words[words.index("ckf") + 1 :]
        verbs = [word for word in words[:1] if "=" not in word and not word.startswith("-") and word != "…"]
        assert set(verbs) <= set(VERBS), line
        if verbs and verbs[0] not in ("prepare", "train", "cf", "check"):
            continue
        for word in words[len(verbs) :]:
            key, _, value = word.partition("=")
            made_up = ("tasks=…", "dataset=shop", "prompts=mine", "fusion=custom")
            if key in load_groups().options and "[" not in value and word not in made_up:
                assert {f"{key}={option}" for option in value.split(",")} <= known | {f"{key}=…"}, line


def test_troubleshooting_quotes_messages_of_the_source() -> None:
    """Every piece of a quoted message between its placeholders (…, N, FILE) occurs in a string of the source."""
    nodes = [n for path in (ROOT / "ckf").rglob("*.py") for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    docstrings = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    strings = "\n".join(
        n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docstrings
    )
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)`", page, re.M)
    assert len(quoted) > 8
    for message in quoted:
        pieces = re.split(r"…|\b[A-Z]+\b|\bnan\b|\d+|[:;]|\S+=\S*|^[a-z_]+\.[a-z_]+", message)
        for piece in filter(None, map(str.strip, pieces)):
            assert piece in strings, f"'{message}': no message of ckf has '{piece}'"
