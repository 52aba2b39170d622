"""A finished run from another folder, after a move, without its cache, rebuilt, and as one folder that has it all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ckf
from ckf.cli.main import main
from ckf.config.compose import compose
from ckf.core.artifact_store import read_json
from ckf.core.errors import ArtifactError
from ckf.pipeline import run as pipeline
from ckf.runs.folder import read_run
from tests.integration.conftest import SMALL

ROWS = [{"task": task, "user": user, "item": item} for task in ("ctr", "rating") for user, item in (("u2", "i3"),)]
ITEMS = "\n".join(["item,title", *(f"I{i},Good thing {i}" for i in range(40))])


def log() -> str:
    draw = np.random.default_rng(0)
    rows = [f"U{n % 40},I{i},{1 + draw.integers(0, 5)},{1_000_000 + 60 * n}" for n, i in enumerate(
        np.concatenate([draw.permutation(40)[:16] for _ in range(40)]).reshape(40, 16).T.ravel())]  # fmt: skip
    return "\n".join(["user,item,rating,timestamp", *rows])


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with data, cache and outputs, all of them named relative to it; never changed."""
    folder = tmp_path_factory.mktemp("made") / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "interactions.csv").write_text(log(), encoding="utf-8")
    (folder / "data" / "items.csv").write_text(ITEMS, encoding="utf-8")
    made = [x for x in SMALL if not x.startswith("dataset.")]
    data = ["dataset=csv", "dataset.root=data", "dataset.items=items.csv", "tasks=[{name: ctr}, {name: rating}]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pipeline.run(compose([*made, *data, "train.max_steps=2"])[0])
    return folder


@pytest.fixture
def moved(project, tmp_path, monkeypatch) -> Path:
    """A copy of the project in another place, and a working directory that has nothing to do with it."""
    shutil.copytree(project, tmp_path / "moved" / "project")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "moved" / "project"


def run_of(project: Path) -> Path:
    (run,) = (project / "outputs").glob("csv-tiny-meta-*")
    return run


@pytest.fixture(scope="module")
def expected(project) -> pd.DataFrame:
    return ckf.load(run_of(project)).predict(rows())


def rows() -> list[dict[str, str]]:
    return [{"task": task, "user": "U2", "item": f"I{item}"} for task in ("ctr", "rating") for item in (3, 7)]


def same(model, expected: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(model.predict(rows()), expected, atol=1e-6)
    return True


def hide_the_original(project: Path, monkeypatch, tmp_path: Path) -> None:
    """Make the places that runs have noted those of a machine that is not this one."""
    for path in (tmp_path / "moved").rglob("run.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(str(project), "/another/machine"), encoding="utf-8")


def test_artifacts_are_noted_where_they_are_and_from_the_run(project):
    artifacts = read_json(run_of(project) / "run.json")["artifacts"]
    assert set(artifacts) == {"dataset", "examples", "cf", "bias", "backbone", "text"}
    for name, entry in artifacts.items():
        assert Path(entry["path"]).is_absolute(), name
        assert (run_of(project) / entry["from_run"]).resolve() == Path(entry["path"]).resolve()


def test_every_verb_works_from_another_working_directory(project, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_of(project)
    assert same(ckf.load(run), expected)
    pd.DataFrame(rows()).to_parquet("rows.parquet")
    assert main(["predict", f"run={run}", "input=rows.parquet", "out=scores.parquet"]) == 0
    assert main(["recommend", f"run={run}", "user=U2", "top=2"]) == 0
    assert main(["probe", str(run)]) == 0
    assert main(["export", f"run={run}", "task=ctr", "format=merged", "out=merged"]) == 0
    assert main(["evaluate", f"run={run}", "evaluate.max_examples=5", "out=again"]) == 0
    assert not (tmp_path / "cache").exists()


def test_a_project_that_was_moved_finds_its_own_artifacts(project, moved, expected, monkeypatch, tmp_path):
    hide_the_original(project, monkeypatch, tmp_path)
    model = ckf.load(run_of(moved))
    assert same(model, expected)
    assert model.inputs.dataset.is_relative_to(moved)
    assert main(["evaluate", f"run={run_of(moved)}", "evaluate.max_examples=5"]) == 0


def test_a_run_that_was_moved_alone_finds_what_stayed(project, moved, expected, tmp_path):
    alone = tmp_path / "alone"
    shutil.move(run_of(moved), alone)
    model = ckf.load(alone)
    assert same(model, expected)
    assert model.inputs.dataset.is_relative_to(project)


@pytest.mark.parametrize("verb", ["predict", "recommend", "probe", "evaluate", "load"])
def test_a_cache_that_was_moved_is_named(project, moved, expected, monkeypatch, tmp_path, capsys, verb):
    hide_the_original(project, monkeypatch, tmp_path)
    (moved / "cache").rename(tmp_path / "elsewhere")
    run, cache = run_of(moved), f"paths.cache={tmp_path / 'elsewhere'}"
    pd.DataFrame(rows()).to_parquet("rows.parquet")
    words = {
        "predict": [f"run={run}", "input=rows.parquet", "out=scores.parquet"],
        "recommend": [f"run={run}", "user=U2", "top=2"],
        "probe": [str(run)],
        "evaluate": [f"run={run}", "evaluate.max_examples=5", "out=again"],
    }
    if verb == "load":
        with pytest.raises(ArtifactError, match="its dataset artifact"):
            ckf.load(run)
        assert same(ckf.load(run, cache=tmp_path / "elsewhere"), expected)
        return
    assert main([verb, *words[verb]]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    digest = read_json(run / "run.json")["artifacts"]["dataset"]["hash"]
    assert f"{run}: its dataset artifact {digest} is not at {moved / 'cache' / 'dataset'}" in line
    assert f"name the cache that has it (paths.cache=DIR), or `ckf rebuild run={run}` makes it" in line
    assert "gone" not in line
    assert "overwrite" not in line
    assert not Path("again").exists(), "nothing half-written"
    assert main([verb, *words[verb], cache]) == 0


def test_an_artifact_of_another_hash_is_not_taken_for_the_runs_own(project, moved, monkeypatch, tmp_path):
    hide_the_original(project, monkeypatch, tmp_path)
    (stamp,) = (moved / "cache" / "dataset").glob("*/artifact.json")
    stamp.write_text(stamp.read_text(encoding="utf-8").replace('"hash": "', '"hash": "0'), encoding="utf-8")
    with pytest.raises(ArtifactError, match="its dataset artifact"):
        ckf.load(run_of(moved))


def test_a_lost_cache_is_rebuilt_to_the_same_hashes_and_the_same_scores(
    project, moved, expected, monkeypatch, tmp_path, capsys
):
    hide_the_original(project, monkeypatch, tmp_path)
    shutil.rmtree(moved / "cache")
    run = run_of(moved)
    before = {name: entry["hash"] for name, entry in read_json(run / "run.json")["artifacts"].items()}
    trained = (run / "fusion.safetensors").stat().st_mtime_ns
    asked = ["rebuild", f"run={run}", f"dataset.root={moved / 'data'}", f"paths.cache={tmp_path / 'new'}"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "rebuild: made dataset, examples, cf, bias, backbone" in said
    assert said.strip().splitlines()[-1] == str(run)
    assert {name: entry["hash"] for name, entry in read_json(run / "run.json")["artifacts"].items()} == before
    assert (run / "fusion.safetensors").stat().st_mtime_ns == trained, "the run itself is not trained again"
    assert same(ckf.load(run), expected)
    assert main(asked) == 0
    assert "rebuild: nothing is missing" in capsys.readouterr().out


def test_only_what_is_missing_is_rebuilt(project, moved, expected, monkeypatch, tmp_path, capsys):
    """Not the dataset, whose sources are gone."""
    hide_the_original(project, monkeypatch, tmp_path)
    shutil.rmtree(moved / "cache" / "backbone")
    shutil.rmtree(moved / "data")
    assert main(["rebuild", f"run={run_of(moved)}"]) == 0
    assert "rebuild: made backbone" in capsys.readouterr().out
    assert same(ckf.load(run_of(moved)), expected)


@pytest.mark.parametrize(
    ("change", "override", "said"),
    [
        ("U0,I0,5,99\n", "", "would give the dataset artifact .*: the source files are others than they were"),
        ("", "cf.epochs=6", "would give the cf artifact .*: its config has changed"),
        ("", "train.max_steps=9", r"train.max_steps: .*only dataset\.\*, cf\.\*, paths\.\* can be set here"),
    ],
)
def test_what_would_not_be_the_same_is_not_built(project, moved, monkeypatch, tmp_path, capsys, change, override, said):
    hide_the_original(project, monkeypatch, tmp_path)
    shutil.rmtree(moved / "cache")
    with (moved / "data" / "interactions.csv").open("a", encoding="utf-8") as file:
        file.write("\n" + change if change else "")
    asked = [f"run={run_of(moved)}", f"dataset.root={moved / 'data'}", *filter(None, [override])]
    assert main(["rebuild", *asked]) in (1, 2)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert pd.Series([line]).str.contains(said).all(), line
    assert not (tmp_path / "here" / "cache").exists()


def test_a_missing_text_only_run_is_asked_for_and_found_next_to_the_run(project, moved, monkeypatch, tmp_path, capsys):
    hide_the_original(project, monkeypatch, tmp_path)
    run = run_of(moved)
    text = Path(read_run(run)[1]["artifacts"]["text"]["path"])
    text.rename(tmp_path / text.name)
    assert main(["evaluate", f"run={run}", "out=again"]) == 1
    said = capsys.readouterr().err
    assert f"its text-only baseline, the run {text.name}, is not at" in said
    assert "put it next to this run" in said
    assert main(["recommend", f"run={run}", "user=U2", "top=2"]) == 0, "it is no part of the model"


def test_a_bundle_needs_nothing_else(project, moved, expected, monkeypatch, tmp_path, capsys):
    hide_the_original(project, monkeypatch, tmp_path)
    first, bundle = tmp_path / "first", tmp_path / "bundle"
    assert main(["export", f"run={run_of(moved)}", "format=bundle", f"out={first}"]) == 0
    first.rename(bundle)
    shutil.rmtree(moved)
    assert not (bundle / "checkpoints").exists()
    assert not [
        path for path in bundle.rglob("run.json") if "/another/machine" in path.read_text() and path.parent == bundle
    ]
    model = ckf.load(bundle)
    assert same(model, expected)
    places = [model.inputs.dataset, model.inputs.examples, model.cf, Path(model.inputs.backbone)]
    assert all(place.resolve().is_relative_to(bundle.resolve()) for place in places)
    pd.DataFrame(rows()).to_parquet("rows.parquet")
    assert main(["predict", f"run={bundle}", "input=rows.parquet", "out=scores.parquet"]) == 0
    assert main(["recommend", f"run={bundle}", "user=U2", "top=2"]) == 0
    assert main(["evaluate", f"run={bundle}", "evaluate.max_examples=5", "out=again"]) == 0
    assert any(key.startswith("text/test/") for key in read_json(Path("again/metrics.json")))


def test_a_bundle_is_whole_or_not_there(project, moved, monkeypatch, tmp_path, capsys):
    hide_the_original(project, monkeypatch, tmp_path)
    shutil.rmtree(moved / "cache" / "cf")
    asked = ["export", f"run={run_of(moved)}", "format=bundle"]
    assert main([*asked, f"out={tmp_path / 'bundle'}"]) == 1
    assert "its cf artifact" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
    assert main([*asked, f"out={tmp_path / 'moved'}"]) == 1
    assert "is not empty; export into a new folder" in capsys.readouterr().err
    assert main([*asked, "task=ctr", f"out={tmp_path / 'bundle'}"]) == 2
    assert "task: not used with format=bundle" in capsys.readouterr().err
    assert main(["export", f"run={run_of(moved)}", f"out={tmp_path / 'adapter'}"]) == 2
    assert "task: required with format=peft" in capsys.readouterr().err
