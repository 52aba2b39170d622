"""Keys and options of older versions are refused with the new name, wherever they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckf.config import renamed
from ckf.config.compose import compose, compose_with_notes
from ckf.config.overrides import key_types
from ckf.config.serialization import load_yaml, to_yaml
from ckf.config.sweep_file import file_trials, load_sweep
from ckf.core.errors import ConfigError
from ckf.sweep.expand import check_trials


def refused(overrides: list[str], config_dir: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose(overrides, config_dir)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("old", renamed.KEYS)
def test_on_the_command_line(old: str) -> None:
    assert refused([f"{old}=1"]) == [f"{old}: renamed to {renamed.KEYS[old]}"]


def test_below_a_key_and_in_a_list() -> None:
    assert refused(["noise.titles=0.5"]) == ["noise.titles: renamed to perturbation.titles"]
    assert refused(["dataset.filters=[{name: min_user_count, value: 2, counted: start}]"]) == [
        "dataset.filters[0].counted: renamed to count_scope"
    ]


@pytest.mark.parametrize(("old", "new"), renamed.OPTIONS.items())
def test_an_option(old: str, new: str) -> None:
    assert refused([old]) == [f"prompts: '{old.partition('=')[2]}' is renamed to prompts={new}"]


@pytest.mark.parametrize(
    ("file", "text", "overrides", "line"),
    [
        (
            "cf/mine.yaml",
            "defaults: [_schema_mf, _self_]\nname: mf\npseudo_counts: 3\n",
            ["cf=mine"],
            "cf=mine: cf.pseudo_counts: renamed to cf.shrinkage",
        ),
        (
            "dataset/shop.yaml",
            "defaults: [_schema_csv, _self_]\nname: csv\nprovides: [ctr]\n",
            ["dataset=shop"],
            "dataset=shop: dataset.provides: renamed to dataset.supported_tasks",
        ),
        (
            "dataset/shop.yaml",
            "defaults: [_schema_csv, _self_]\nname: csv\nfilters: [{name: min_user_count, value: 2, counted: start}]\n",
            ["dataset=shop"],
            "dataset=shop: counted: renamed to count_scope",
        ),
        (
            "prompts/mine.yaml",
            "defaults: [late, _self_]\nseparator: ' | '\n",
            ["prompts=mine"],
            "prompts=mine: prompts: 'late' is renamed to prompts=slots_late",
        ),
        (
            "method/mine.yaml",
            "# @package _global_\nnoise: {titles: 0.5}\n",
            ["method=mine"],
            "method=mine: noise: renamed to perturbation",
        ),
    ],
)
def test_in_a_file_of_ones_own(tmp_path: Path, file: str, text: str, overrides: list[str], line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    assert line in refused(overrides, tmp_path)


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/much.yaml").write_text("titles: 1.0\n", encoding="utf-8")
    assert refused([], tmp_path) == [f"--config-dir: {tmp_path / 'noise'}: renamed to perturbation"]


def test_in_a_sweep_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "title: t\nquestion: q\noverrides: [prompts=late]\ngrid: {train.vector_folds: [0, 5]}\n"
        "rows: [train.vector_folds]\nmetrics: [test/ctr/auc]\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        check_trials(file_trials(load_sweep(path)))
    text = str(caught.value)
    assert "prompts: 'late' is renamed to prompts=slots_late" in text
    assert "train.vector_folds: renamed to cf.out_of_fold" in text


def test_in_a_saved_run(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = to_yaml(compose([])[0])
    path.write_text(text.replace("mixture:", "mix:").replace("overwrite:", "force:"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    (line,) = str(caught.value).splitlines()
    assert "tasks.mix: renamed to tasks.mixture" in line
    assert "force: renamed to overwrite" in line


def test_an_old_name_is_no_key_and_a_new_one_is() -> None:
    cfg = compose_with_notes(["dataset=amazon", "cf=sasrec", "fusion=meta"], fill_missing=True).cfg
    from ckf.config.schema import ExperimentConfig

    known = {*key_types(ExperimentConfig, cfg), "count_scope", "perturbation"}
    assert not known & {*renamed.KEYS}
    assert {new.split(" ")[0] for new in renamed.KEYS.values()} <= known
