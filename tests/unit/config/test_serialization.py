"""A run's config.yaml comes back as it was, and names the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckf.config.compose import compose, load_yaml, to_yaml, with_overrides
from ckf.config.serialization import fingerprint_payload
from ckf.core.artifact_store import fingerprint
from ckf.core.errors import ConfigError

RUNS = [
    [],
    ["method=tallrec", "logger=csv", "tasks=[{name: ctr, weight: 2}]"],
    ["method=bias"],
    ["dataset=collm_ml1m", "dataset.root=/data", "backbone=hf", "backbone.path=x", "fusion=random"],
    ["fusion=linear", "trainer=ddp", "train.learning_rate=1e-5", "train.max_steps=null"],
]


def saved(tmp_path: Path, *overrides: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(compose(overrides)[0]), encoding="utf-8")
    return path


@pytest.mark.parametrize("overrides", RUNS, ids=" ".join)
def test_comes_back_as_it_was(tmp_path: Path, overrides: list[str]) -> None:
    exp, _ = compose(overrides)
    again = load_yaml(saved(tmp_path, *overrides))
    assert again == exp
    assert type(again.fusion) is type(exp.fusion)
    assert type(again.logger) is type(exp.logger)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("rank: 16", "rnak: 16", "written by another version of ckf: lora.rnak: unknown key; did you mean"),
        (
            "name: meta",
            "name: gone",
            "fusion.name: 'gone' is not allowed; one of none, linear, mlp, meta, meta_attention,",
        ),
        ("\n  steps: 500", "\n  steps: 0", "pretrain.steps: must be at least 3, got 0"),
        ("seed: 0", "seed: [", "not a readable config ("),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = saved(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ")
    assert problem in line


@pytest.mark.parametrize(("line", "found"), [("", "1"), ("format: 3\n", "3")])
def test_another_format_is_refused_with_both_numbers(tmp_path: Path, line: str, found: str) -> None:
    path = saved(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("format: 2\n")
    path.write_text(text.replace("format: 2\n", line, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert str(caught.value).splitlines() == [
        f"{path}: is of format {found}; this version of ckf reads format 2, run it again"
    ]


def test_a_missing_or_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    for name, problem in (("none.yaml", "no such file"), ("empty.yaml", "not a readable config")):
        with pytest.raises(ConfigError, match=problem):
            load_yaml(tmp_path / name)


def test_what_may_change_after_a_run() -> None:
    exp, _ = compose([])
    assert with_overrides(exp, ["evaluate.batch_size=8"]).evaluate.batch_size == 8
    with pytest.raises(ConfigError) as caught:
        with_overrides(exp, ["lora.rank=8", "fusion=none", "evaluate.batch_szie=8"])
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "fusion",
        "lora.rank",
        "evaluate.batch_szie",
    ]


def digest(*overrides: str) -> str:
    return fingerprint(fingerprint_payload(compose(overrides)[0]))


@pytest.mark.parametrize(
    "override",
    ["seed=3", "name=x", "overwrite=true", "logger=csv", "paths.outputs=o", "paths.cache=c", "train.workers=2"],
)
def test_what_does_not_name_a_run(override: str) -> None:
    assert digest(override) == digest()


@pytest.mark.parametrize("override", ["lora.rank=8", "fusion=random", "tasks=[ctr]", "dataset.data_seed=1"])
def test_what_names_a_run(override: str) -> None:
    assert digest(override) != digest()


def test_a_preset_is_named_by_its_choices_and_data_by_its_content() -> None:
    assert digest("method=tallrec") == digest("lora=shared", "fusion=none", "curriculum=text_only")
    collm = ("dataset=collm_ml1m", "dataset.root=")
    assert digest(collm[0], collm[1] + "a") == digest(collm[0], collm[1] + "b")
