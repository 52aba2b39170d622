"""Every YAML in conf/ and every sweep file: each opens with a comment, composes, and is covered by a schema."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ckf.cli.check import check_all
from ckf.config.compose import compose, compose_with_notes
from ckf.config.option_groups import DATASET_DEFAULTS, TUNED, conf_dir, load_groups
from ckf.config.registry import SCHEMAS
from ckf.core.errors import ConfigError
from ckf.sweep import check_trials, file_trials, load_sweep

ROOT = Path(__file__).parents[3]
CONF = conf_dir()
FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = [path for path in FILES if path.parent not in (CONF, CONF / TUNED, CONF / DATASET_DEFAULTS)]
SWEEPS = sorted((ROOT / "experiments").glob("*/*.yaml"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", OPTIONS, ids=name)
def test_option_composes(path: Path) -> None:
    group, option = path.parent.name, path.stem
    composed = compose_with_notes([f"{group}={option}"], fill_missing=True, rules=group in ("method", "size"))
    assert composed.choices[group] == option
    node = getattr(composed.exp, group, None)
    if group in SCHEMAS:
        assert type(node) is SCHEMAS[group][option]
        assert getattr(node, "name", option) == option
    elif group == "method":
        assert composed.exp.method.name == option


@pytest.mark.parametrize("path", [*FILES, *SWEEPS], ids=name)
def test_file_opens_with_a_comment_that_says_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert comment.startswith("# ")
    assert len(comment) > 10


@pytest.mark.parametrize("path", SWEEPS, ids=name)
def test_sweep_file_composes(path: Path) -> None:
    sweep = load_sweep(path)
    trials = file_trials(sweep, ["logger=csv"])
    points = math.prod(map(len, sweep.grid.values())) * max(1, len(sweep.variants))
    assert len({trial.name for trial in trials}) == len(trials) == points
    check_trials(trials)


def test_every_schema_has_a_file_and_every_file_a_schema() -> None:
    options = load_groups().options
    assert {group: sorted(known) for group, known in SCHEMAS.items()} == {
        group: sorted(found) for group, found in options.items() if group in SCHEMAS
    }
    assert set(options) - set(SCHEMAS) == {"method", "size"}


@pytest.mark.parametrize("path", sorted((CONF / TUNED).glob("*.yaml")), ids=name)
def test_values_found_by_a_search_name_their_command(path: Path) -> None:
    dataset, cf = next(p for p in itertools.product(SCHEMAS["dataset"], SCHEMAS["cf"]) if "_".join(p) == path.stem)
    exp = compose_with_notes([f"dataset={dataset}", f"cf={cf}"], fill_missing=True, rules=False).exp
    found = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(found, dict)
    assert {key: getattr(exp.cf, str(key)) for key in found} == found
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any("python " in line for line in comments[1:]), "the command that found them"


def test_values_found_for_a_dataset_are_its_defaults_alone(tmp_path: Path) -> None:
    (tmp_path / TUNED).mkdir()
    (tmp_path / TUNED / "ml1m_din_plus.yaml").write_text("# found\ndim: 24\n")
    ml1m = ["dataset=ml1m", "dataset.root=somewhere"]
    plain = compose([*ml1m, "cf=din_plus"])[0].cf
    assert compose([*ml1m, "cf=din_plus"], tmp_path)[0].cf == dataclasses.replace(plain, dim=24)
    assert compose([*ml1m, "cf=din_plus", "cf.dim=6"], tmp_path)[0].cf == dataclasses.replace(plain, dim=6)
    assert compose([*ml1m, "cf=mf_plus"], tmp_path)[0].cf == compose([*ml1m, "cf=mf_plus"])[0].cf
    assert compose([*ml1m, "method=cf_only", "cf=din_plus"], tmp_path)[0].cf.dim == 24, "also under a preset"
    other = ["dataset=collm_ml1m", "dataset.root=somewhere", "cf=din_plus"]
    assert compose(other, tmp_path)[0].cf == plain


def test_values_of_ones_own_stand_in_place_of_the_built_in_ones(tmp_path: Path) -> None:
    plain = compose(["dataset=ml1m", "dataset.root=somewhere", "cf=din_plus"])[0].cf
    assert compose(["cf=din_plus"])[0].cf != plain, "there are built-in ones"
    (tmp_path / TUNED).mkdir()
    (tmp_path / TUNED / "synthetic_din_plus.yaml").write_text("# found\ndim: 24\n")
    assert compose(["cf=din_plus"], tmp_path)[0].cf == dataclasses.replace(plain, dim=24)
    assert compose(["cf=din_plus"])[0].cf.dim != 24, "only where the folder is asked for"


def test_values_that_nobody_would_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / TUNED).mkdir()
    (tmp_path / TUNED / "synthetic_dim.yaml").write_text("dim: 24\n")
    with pytest.raises(ConfigError, match=r"synthetic_dim.yaml: not the name .* did you mean 'synthetic_din'\?"):
        compose([], tmp_path)
    (tmp_path / TUNED / "synthetic_dim.yaml").rename(tmp_path / TUNED / "synthetic_mf_plus.yaml")
    (tmp_path / TUNED / "synthetic_mf_plus.yaml").write_text("dims: 24\n")
    with pytest.raises(ConfigError, match="dims"):
        compose([], tmp_path)


def test_a_group_on_the_command_line_wins_over_a_preset() -> None:
    exp, _ = compose(["method=tallrec", "fusion=linear", "curriculum=joint", "size=small"])
    assert (exp.method.name, exp.fusion.name, exp.lora.name) == ("tallrec", "linear", "shared")
    assert exp.train.max_steps == 120


@pytest.mark.parametrize("order", [["size=small", "method=tallrec"], ["method=tallrec", "size=small"]])
def test_the_order_of_presets_does_not_matter(order: list[str]) -> None:
    exp, _ = compose(order)
    assert (exp.method.name, exp.train.max_steps) == ("tallrec", 120)


def test_a_dataset_with_its_own_split_brings_it_along() -> None:
    exp, _ = compose(["dataset=collm_ml1m", "dataset.root=data"])
    assert exp.split.name == "provided"
    assert [task.name for task in exp.task_mix] == ["ctr", "topk"]


def test_a_dataset_sets_the_steps_and_the_cold_users_of_its_runs() -> None:
    books = ["dataset=amazon_books", "dataset.root=data"]
    assert compose(books)[0].split.cold_user_max_interactions == 5
    assert compose([*books, "split.cold_user_max_interactions=0"])[0].split.cold_user_max_interactions == 0
    assert [compose(lines)[0].train.max_steps for lines in ([], ["train.max_steps=7"], books)] == [500, 7, None]
    assert compose(["method=tallrec", "dataset=collm_ml1m", "dataset.root=x"])[0].train.max_steps == 1000


def test_a_dataset_of_ones_own_sets_them_too(tmp_path: Path) -> None:
    (tmp_path / DATASET_DEFAULTS).mkdir()
    (tmp_path / DATASET_DEFAULTS / "ml1m.yaml").write_text("train: {max_steps: 40}\n")
    assert compose(["dataset=ml1m", "dataset.root=x"], tmp_path)[0].train.max_steps == 40
    (tmp_path / DATASET_DEFAULTS / "ml1n.yaml").write_text("train: {max_steps: 40}\n")
    with pytest.raises(ConfigError, match=r"ml1n.yaml: not the name of a dataset; did you mean 'ml1m'\?"):
        compose([], tmp_path)


def test_the_released_adapters() -> None:
    lora = compose([])[0].lora
    assert lora.shared is not None
    assert lora.per_task is not None
    assert (lora.rank, lora.alpha, lora.dropout) == (16, 64.0, 0.0)
    assert lora.shared.target_modules == ["k_proj", "v_proj", "o_proj"]
    assert lora.per_task.target_modules == ["q_proj"]


# --- a user's own options ---------------------------------------------------------------------


def own(tmp_path: Path, files: dict[str, str]) -> Path:
    for place, text in files.items():
        path = tmp_path / f"{place}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_own_option(tmp_path: Path) -> None:
    folder = own(tmp_path, {"fusion/wide": "defaults: [_schema_meta, _self_]\nmeta_hidden: 128\n"})
    exp, _ = compose(["fusion=wide", "fusion.dropout=0.1"], folder)
    assert (exp.fusion.name, exp.fusion.meta_hidden, exp.fusion.dropout) == ("meta", 128, 0.1)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("place", "text", "problem"),
    [
        ("fusion/mine", "defaults: [_schema_linear, _self_]\ndropuot: 1\n", "Key 'dropuot' not in"),
        ("fusion/mine", "defaults: [_schema_linear, _self_]\ndropout: big\n", "Value 'big' of type 'str'"),
        ("fusion/mine", "dropout: [1\n", "expected ',' or ']'"),
        ("fusion/mine", "dropout: 0.1\n", "fusion.name: required, has no value"),
        ("fusion/mine", "name: linear\n", "fusion.name: 'linear' does not fit FusionConfig"),
        ("fusion/meta", "dropout: 0.1\n", "fusion=meta exists already"),
        ("fusoin/mine", "dropout: 0.1\n", "not a config group; did you mean 'fusion'?"),
    ],
)
def test_faulty_option_of_ones_own(tmp_path: Path, place: str, text: str, problem: str) -> None:
    folder = own(tmp_path, {place: text})
    with pytest.raises(ConfigError) as caught:
        compose([f"fusion={Path(place).stem}", "seed=x"] if "fusion" in place else [], folder)
    assert any(problem in line for line in str(caught.value).splitlines())
    if "exists" not in problem and "group" not in problem:
        assert "seed: 'x' is not an int" in str(caught.value).splitlines()


def test_check_all_names_the_option_and_the_sweep(tmp_path: Path) -> None:
    folder = own(tmp_path, {"conf/lora/mine": "rnak: 3\n", "conf/fusion/x": "name: meta\n"}) / "conf"
    own(tmp_path, {"experiments/t/sweep": "title: t\nquestion: q\ngrid: {sed: [1]}\nrows: [sed]\nmetrics: [m]\n"})
    with pytest.raises(ConfigError) as caught:
        check_all(folder, tmp_path / "experiments")
    text = str(caught.value)
    assert "lora=mine: " in text
    assert "sweep.yaml: trial 'sed=1': sed: unknown key; did you mean 'seed'?" in text
