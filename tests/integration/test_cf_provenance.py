"""The main job refuses a CF model that met the evaluated rows, and stamps vectors of unknown origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ckf.cf.leakage_check import raw_ids
from ckf.config.compose import compose
from ckf.core.artifact_store import read_json
from ckf.core.errors import ArtifactError
from ckf.pipeline import run as pipeline
from ckf.runs.folder import read_run

SMALL = ["dataset.users=60", "dataset.items=50", "dataset.interactions_per_user=20", "logger=csv", "tasks.candidates=5"]


def config(folder: Path, *more: str):
    places = [f"paths.cache={folder / 'cache'}", f"paths.outputs={folder / 'outputs'}"]
    return compose(["method=cf_only", *SMALL, *places, *more])[0]


def given_tables(folder: Path, dataset: Path) -> list[str]:
    """Random vectors for every raw id of the dataset, and the settings that read them."""
    draw = np.random.default_rng(0)
    for kind in ("user", "item"):
        ids = raw_ids(dataset, kind)[1:].astype(str)
        np.savez(folder / f"{kind}s.npz", vectors=draw.normal(size=(len(ids), 4)).astype(np.float32), id=ids)
    return [
        "cf=pretrained",
        f"cf.users={folder / 'users.npz'}",
        f"cf.items={folder / 'items.npz'}",
        "cf.scores=sigmoid",
    ]


def test_unknown_origin_is_stamped_and_a_leak_is_refused(tmp_path):
    dataset = pipeline.prepare_dataset(config(tmp_path)).path
    given = given_tables(tmp_path, dataset)
    run = pipeline.run(config(tmp_path, *given))
    report = (run / "report.md").read_text()
    assert "CF training data unknown: leakage cannot be excluded" in report
    assert "## Caveats" in report
    metrics = read_json(run / "metrics.json")
    assert metrics["test/ctr/n"] > 0
    assert not any(key.startswith("cf/test/rating") for key in metrics), "no stars from a dot product"

    rows = pd.read_parquet(dataset / "interactions.parquet")
    names = {kind: raw_ids(dataset, kind) for kind in ("user", "item")}
    rows = rows.assign(user=names["user"][rows["user"]], item=names["item"][rows["item"]])
    train = rows[rows["split"] == "train"]
    planted = pd.concat([train, rows[rows["split"] == "test"].head(1)])
    for name, seen in (("honest", train), ("leaky", planted)):
        seen[["user", "item", "timestamp"]].to_csv(tmp_path / f"{name}.csv", index=False)
    honest = pipeline.run(config(tmp_path, *given, f"cf.trained_on={tmp_path / 'honest.csv'}"))
    assert "CF training data unknown" not in (honest / "report.md").read_text()
    leaky = config(tmp_path, *given, f"cf.trained_on={tmp_path / 'leaky.csv'}")
    with pytest.raises(ArtifactError, match=r"trained on 1 of the \d+ rows of test"):
        pipeline.run(leaky)


def test_training_refuses_the_leak_too(tmp_path):
    """`ckf train` of a fused model stops before a backbone is loaded."""
    from ckf.assembly import Inputs
    from ckf.train.fit import fit

    exp = config(tmp_path)
    dataset = pipeline.prepare_dataset(exp).path
    examples = pipeline.prepare_examples(exp, pipeline.prepare_dataset(exp)).path
    given = given_tables(tmp_path, dataset)
    test = pd.read_parquet(dataset / "interactions.parquet").query("split == 'test'").head(2)
    names = {kind: raw_ids(dataset, kind) for kind in ("user", "item")}
    test.assign(user=names["user"][test["user"]], item=names["item"][test["item"]])[["user", "item"]].to_csv(
        tmp_path / "leaky.csv", index=False
    )
    leaky = config(tmp_path, *given, f"cf.trained_on={tmp_path / 'leaky.csv'}")
    cf = Path(pipeline.cf(leaky))
    with pytest.raises(ArtifactError, match="trained on 2 of the"):
        fit(leaky, Inputs(dataset, examples, "nowhere", cf), tmp_path / "run", None)


def test_a_run_of_given_tables_is_named_by_their_content(tmp_path):
    dataset = pipeline.prepare_dataset(config(tmp_path)).path
    given = given_tables(tmp_path, dataset)
    first = pipeline.run(config(tmp_path, *given))
    assert pipeline.run(config(tmp_path, *given)) == first
    with np.load(tmp_path / "users.npz") as old:
        vectors, ids = old["vectors"] + 1, old["id"]
    np.savez(tmp_path / "users.npz", vectors=vectors, id=ids)
    second = pipeline.run(config(tmp_path, *given))
    assert second != first
    assert read_run(second)[1]["artifacts"]["cf"]["hash"] != read_run(first)[1]["artifacts"]["cf"]["hash"]
