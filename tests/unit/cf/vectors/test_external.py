"""Tables made elsewhere: every format gives the same vectors by raw id, and every misfit one clear line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from ckf.cf.data import CFData
from ckf.cf.fit import build_cf
from ckf.cf.leakage_check import check_no_overlap, is_unknown
from ckf.cf.vectors.external import with_content_hashes
from ckf.cf.vectors.tables import VectorTables
from ckf.config.compose import compose
from ckf.config.schema import BiasConfig, PretrainedConfig
from ckf.core.artifact_store import read_json
from ckf.core.errors import ArtifactError, ConfigError, DataError
from tests.worlds import small_source, write_world

DIM = 3


class World:
    """A dataset with its raw ids, and for each kind vectors in an order of their own."""

    def __init__(self, folder: Path) -> None:
        self.dataset, self.examples = write_world(folder, small_source(), tasks=["ctr", "rating", "topk"])
        self.data = CFData.load(self.dataset)
        draw = np.random.default_rng(0)
        self.ids, self.vectors, self.dense = {}, {}, {}
        for kind in ("user", "item"):
            table = pd.read_parquet(self.dataset / f"{kind}s.parquet").sample(frac=1, random_state=1)
            self.ids[kind] = table["raw_id"].astype(str).tolist()
            self.vectors[kind] = draw.normal(size=(len(table), DIM)).astype(np.float32)
            self.dense[kind] = np.zeros((int(table[kind].max()) + 1, DIM), dtype=np.float32)
            self.dense[kind][table[kind]] = self.vectors[kind]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("pretrained"))


def id_files(world: World, folder: Path) -> dict[str, str]:
    for kind in ("user", "item"):
        (folder / f"{kind}.txt").write_text("\n".join(world.ids[kind]) + "\n")
    return {f"{kind}_ids": str(folder / f"{kind}.txt") for kind in ("user", "item")}


def build(world: World, out: Path, **settings) -> VectorTables:
    out.mkdir(parents=True)
    build_cf(PretrainedConfig("pretrained", **settings), world.dataset, world.examples, 0, out)
    return VectorTables.load(out)


class FakeConfig(dict):
    """Stands for RecBole's config object in a checkpoint."""


def write(world: World, folder: Path, form: str) -> dict[str, str]:
    """Files of both tables in one form, and the settings that read them."""
    files = {kind: folder / f"{kind}s.{form.split('-')[0]}" for kind in ("user", "item")}
    for kind, path in files.items():
        vectors, ids = torch.from_numpy(world.vectors[kind]), world.ids[kind]
        embedding = torch.nn.Embedding.from_pretrained(vectors)
        match form:
            case "npy":
                np.save(path, vectors.numpy())
            case "npz":
                np.savez(path, vectors=vectors.numpy(), id=np.asarray(ids))
            case "safetensors":
                save_file({"emb": vectors, "other": vectors + 1}, path)
            case "parquet-columns":
                pd.DataFrame({"id": ids, **{f"v{i}": vectors[:, i].numpy() for i in range(DIM)}}).to_parquet(path)
            case "parquet-list":
                pq.write_table(pa.table({"id": ids, "vector": vectors.tolist()}), path)
            case "pt-module":
                torch.save(embedding, path)
            case "pt-state":
                torch.save(embedding.state_dict(), path)
            case "pkl":
                path.write_bytes(pickle.dumps(embedding))
    settings = {f"{kind}s": str(path) for kind, path in files.items()}
    if form == "safetensors":
        settings |= {"user_key": "emb", "item_key": "emb"}
    return settings if form in ("npz", "parquet-columns", "parquet-list") else settings | id_files(world, folder)


FORMS = ["npy", "npz", "safetensors", "parquet-columns", "parquet-list", "pt-module", "pt-state", "pkl"]


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_aligned_by_raw_id(world, tmp_path, form):
    tables = build(world, tmp_path / "out", **write(world, tmp_path, form))
    np.testing.assert_array_equal(tables.users.numpy(), world.dense["user"])
    np.testing.assert_array_equal(tables.items.numpy(), world.dense["item"])


def test_white_space_around_ids_is_not_part_of_them(world, tmp_path):
    settings = write(world, tmp_path, "npy")
    for kind in ("user", "item"):
        (tmp_path / f"{kind}.txt").write_text("\n".join(f" {name} " for name in world.ids[kind]) + "\n")
    tables = build(world, tmp_path / "out", **settings)
    np.testing.assert_array_equal(tables.users.numpy(), world.dense["user"])
    np.testing.assert_array_equal(tables.items.numpy(), world.dense["item"])


def test_a_recbole_checkpoint_gives_its_weights_and_runs_none_of_its_classes(world, tmp_path, monkeypatch):
    module = ModuleType("recbole.config.configurator")
    module.Config = type("Config", (FakeConfig,), {"__module__": module.__name__})  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:  # such classes exist when the checkpoint is written, not when it is read
        for name in ("recbole", "recbole.config", module.__name__):
            patch.setitem(__import__("sys").modules, name, module)
        state = {
            f"{kind}_embedding.weight": torch.from_numpy(np.vstack([np.zeros((1, DIM), np.float32), rows]))
            for kind, rows in world.vectors.items()
        }
        checkpoint = {"config": module.Config(a=1), "epoch": 3, "state_dict": state, "optimizer": {"state": {}}}
        torch.save(checkpoint, tmp_path / "BPR.pth")
    for kind in ("user", "item"):  # RecBole's own order: padding first
        (tmp_path / f"{kind}.json").write_text(json.dumps(["[PAD]", *world.ids[kind]]))
    tables = build(
        world, tmp_path / "out", users=str(tmp_path / "BPR.pth"), items=str(tmp_path / "BPR.pth"),
        user_ids=str(tmp_path / "user.json"), item_ids=str(tmp_path / "item.json"),
    )  # fmt: skip
    np.testing.assert_array_equal(tables.users.numpy(), world.dense["user"])
    assert read_json(tmp_path / "out" / "manifest.json")["user_alignment"]["unknown_ids"] == 0


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["pt", "pkl"])
def test_a_pickle_that_asks_for_anything_else_is_refused_and_not_run(world, tmp_path, form):
    path, owned = tmp_path / f"t.{form}", tmp_path / "owned"
    value = {"state_dict": {"w": torch.zeros(2, 2)}, "x": Evil(owned)}
    torch.save(value, path) if form == "pt" else path.write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=r"refused: the pickle asks for (posix|nt)\.system"):
        build(world, tmp_path / "out", users=str(path), items=str(path))
    assert not owned.exists()


def test_rows_by_position_only_when_asked(world, tmp_path):
    for kind in ("user", "item"):
        np.save(tmp_path / f"{kind}s.npy", world.dense[kind])
    files = {f"{kind}s": str(tmp_path / f"{kind}s.npy") for kind in ("user", "item")}
    with pytest.raises(DataError, match=r"has no ids; give cf.user_ids=FILE .* cf.ids=position"):
        build(world, tmp_path / "a", **files)
    tables = build(world, tmp_path / "b", **files, ids="position")
    np.testing.assert_array_equal(tables.items.numpy(), world.dense["item"])
    np.save(tmp_path / "users.npy", world.dense["user"][:-1])
    with pytest.raises(DataError, match=r"rows, but ids=position needs"):
        build(world, tmp_path / "c", **files, ids="position")


def test_raw_position_takes_the_row_of_the_raw_number(world, tmp_path):
    """As the released code indexes its tables: row i is the user whose raw id is i, whatever the dataset calls it."""
    dataset = tmp_path / "dataset"
    shutil.copytree(world.dataset, dataset)
    for kind in ("user", "item"):
        table = pd.read_parquet(dataset / f"{kind}s.parquet")
        table["raw_id"] = (1000 - 3 * table[kind]).astype(str)
        table.to_parquet(dataset / f"{kind}s.parquet")
        np.save(tmp_path / f"{kind}s.npy", np.repeat(np.arange(1001.0)[:, None], DIM, axis=1))
    files = {f"{kind}s": str(tmp_path / f"{kind}s.npy") for kind in ("user", "item")}
    out = tmp_path / "out"
    out.mkdir()
    build_cf(PretrainedConfig("pretrained", **files, ids="raw_position"), dataset, world.examples, 0, out)
    assert VectorTables.load(out).users[2].tolist() == [994.0] * DIM


def test_missing_ids_are_named_and_counted_and_can_be_taken_as_cold(world, tmp_path):
    settings = write(world, tmp_path, "npy")
    trained = np.unique(world.data.train.item)
    names = pd.read_parquet(world.dataset / "items.parquet").set_index("item")["raw_id"].astype(str)
    gone = [world.ids["item"].index(names[i]) for i in trained[:2]]
    keep = np.setdiff1d(np.arange(len(world.ids["item"])), gone)
    np.save(tmp_path / "items.npy", world.vectors["item"][keep])
    ids = [world.ids["item"][i] for i in keep]
    (tmp_path / "item.txt").write_text("\n".join(ids))
    with pytest.raises(DataError, match=rf"2 of {len(trained)} items of the training split have no vector") as caught:
        build(world, tmp_path / "a", **settings)
    assert names[trained[0]] in str(caught.value)
    tables = build(world, tmp_path / "b", **settings, missing="cold", cold="zero")
    assert not tables.items[torch.from_numpy(trained[:2])].any()
    (tmp_path / "item.txt").write_text("\n".join([*ids[:-1], "nobody"]))
    build(world, tmp_path / "c", **settings, missing="cold")
    card = read_json(tmp_path / "c" / "manifest.json")["item_alignment"]
    assert (card["unknown_ids"], card["first_unknown"]) == (1, ["nobody"])


def test_bad_tables_are_one_clear_line(world, tmp_path):
    settings = write(world, tmp_path, "npy")
    good = world.vectors["user"]
    bad = good.copy()
    bad[4, 0] = np.nan
    cases = [
        (bad, r"users.npy: row 5 holds NaN or infinity \(1 such rows"),
        (good[:-3], rf"users.npy: {len(good) - 3} vectors for {len(good)} ids of .*user.txt"),
        (good[:, :2], r"vectors are 2 wide, those of .*items.npy 3"),
        (good[:, 0], r"expected a matrix of numbers \[rows, dim\]"),
        (good.astype(str), r"expected a matrix of numbers"),
    ]
    for number, (table, problem) in enumerate(cases):
        np.save(tmp_path / "users.npy", table)
        with pytest.raises(DataError, match=problem) as caught:
            build(world, tmp_path / str(number), **settings)
        assert "\n" not in str(caught.value)
    np.save(tmp_path / "users.npy", good)
    with pytest.raises(DataError, match=r"vectors are 3 wide, but cf.dim is 8"):
        build(world, tmp_path / "dim", **settings, dim=8)
    (tmp_path / "user.txt").write_text("\n".join([world.ids["user"][0], *world.ids["user"][:-1]]))
    with pytest.raises(DataError, match="1 ids occur twice"):
        build(world, tmp_path / "twice", **settings)
    (tmp_path / "user.txt").write_text("\n".join(f"x{i}" for i in range(len(good))))
    with pytest.raises(DataError, match=r"none of its \d+ rows belongs to a user .* in the file: x0, x1, x2"):
        build(world, tmp_path / "none", **settings)
    (tmp_path / "users.npy").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"not a readable \.npy file"):
        build(world, tmp_path / "broken", **settings)
    (tmp_path / "users.npy").unlink()
    with pytest.raises(DataError, match=r"users.npy: no such file"):
        build(world, tmp_path / "gone", **settings)


@pytest.mark.parametrize(("scores", "tasks"), [("none", set()), ("dot", {"ctr", "topk"}), ("sigmoid", {"ctr", "topk"})])
def test_predictions_only_of_what_was_asked(world, tmp_path, scores, tasks):
    build(world, tmp_path / "out", **write(world, tmp_path, "npz"), scores=scores)
    found = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert set(found["task"]) == tasks
    assert found["score"].notna().all()
    if scores == "sigmoid":
        row = found[found["task"] == "ctr"].iloc[0]
        examples = pd.read_parquet(world.examples / "examples.parquet").set_index("example_id")
        user = examples.loc[row["example_id"], "user"]
        dot = float(world.dense["user"][user] @ world.dense["item"][row["item"]])
        assert row["score"] == pytest.approx(1 / (1 + np.exp(-dot)))


def test_unknown_origin_is_said_and_a_named_one_is_checked(world, tmp_path):
    settings = write(world, tmp_path, "npz")
    build(world, tmp_path / "unknown", **settings)
    assert is_unknown(tmp_path / "unknown")
    check_no_overlap(tmp_path / "unknown", world.dataset, ["test"])
    rows = pd.read_parquet(world.dataset / "interactions.parquet")
    for kind in ("user", "item"):
        raw = pd.read_parquet(world.dataset / f"{kind}s.parquet").set_index(kind)["raw_id"].astype(str)
        rows[kind] = rows[kind].map(raw)
    train, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    for name, given, columns in (
        ("honest", train, ["user", "item", "timestamp"]),
        ("leaky", pd.concat([train, test.head(1)]), ["user", "item", "timestamp"]),
        ("pairs", pd.concat([train, test.head(1)]), ["user", "item"]),
        ("spaced", pd.concat([train, test.head(1).assign(user=" " + test["user"])]), ["user", "item"]),
    ):
        file = tmp_path / f"{name}.csv"
        given[columns].to_csv(file, index=False)
        build(world, tmp_path / name, **settings, trained_on=str(file))
        assert not is_unknown(tmp_path / name)
        if name == "honest":
            check_no_overlap(tmp_path / name, world.dataset, ["test"])
        else:
            with pytest.raises(ArtifactError, match="trained on 1 of the"):
                check_no_overlap(tmp_path / name, world.dataset, ["test"])
    train.assign(user="q")[["user", "item"]].to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match="so leakage cannot be checked"):
        build(world, tmp_path / "other", **settings, trained_on=str(tmp_path / "other.csv"))


def test_the_keys_of_another_artifact_name_the_origin(world, tmp_path):
    (tmp_path / "bias").mkdir()
    build_cf(BiasConfig("bias"), world.dataset, world.examples, 0, tmp_path / "bias")
    keys = str(tmp_path / "bias" / "trained_on.parquet")
    build(world, tmp_path / "out", **write(world, tmp_path, "npz"), trained_on=keys)
    with pytest.raises(ArtifactError, match="rows of train"):
        check_no_overlap(tmp_path / "out", world.dataset, ["train"])


def test_files_count_by_content(world, tmp_path):
    cfg = PretrainedConfig("pretrained", **write(world, tmp_path, "npz"))
    before = with_content_hashes(cfg)
    (tmp_path / "users.npz").rename(tmp_path / "moved.npz")
    with pytest.raises(DataError, match=r"cf.users: .*users.npz: no such file"):
        with_content_hashes(cfg)
    cfg.users = str(tmp_path / "moved.npz")
    assert with_content_hashes(cfg) == before
    np.savez(tmp_path / "moved.npz", vectors=world.vectors["user"] + 1, id=np.asarray(world.ids["user"]))
    assert with_content_hashes(cfg) != before


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (["cf.ids=name"], "cf.ids: 'name' is not allowed; one of raw, position, raw_position"),
        (["cf.users=a.xlsx"], "cf.users: 'a.xlsx' is none of the known formats"),
        (["cf.ids=position", "cf.user_ids=u.txt"], "cf.user_ids: is not read with ids=position"),
        (["backbone=none"], "backbone=none: cf=pretrained predicts nothing by itself"),
    ],
)
def test_refused_configs(extra, problem):
    with pytest.raises(ConfigError) as caught:
        compose(["cf=pretrained", "cf.users=u.npy", "cf.items=i.npy", *extra])
    assert any(problem in line for line in str(caught.value).splitlines()), str(caught.value).splitlines()
