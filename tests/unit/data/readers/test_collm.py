"""Readers: CoLLM's pickles through the allow-list, the built-in data."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ckf.config.schema import CollmConfig, SplitConfig
from ckf.core.errors import DataError
from ckf.core.safe_pickle import read_pickled_table
from ckf.data.prepare import build_dataset, source_hashes
from ckf.data.readers.collm import read_collm
from ckf.metrics import auc
from tests.worlds import SHARED_ML1M, SMALL, small_source, write_collm_pickles, write_world


class Call:
    """Pickles as a call of a function with arguments: what an attack looks like."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch PWNED",)),
        (eval, ("open('PWNED', 'w')",)),
        (exec, ("open('PWNED', 'w')",)),
        (pd.read_csv, ("PWNED",)),
        (np.fromfile, ("PWNED",)),
        (pd.eval, ("1 + 1",)),
    ],
)
def test_a_pickle_that_calls_a_function_is_refused(tmp_path, monkeypatch, function, arguments):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(Call(function, *arguments)))
    with pytest.raises(DataError, match=r"evil.pkl: refused: the pickle asks for"):
        read_pickled_table(path)
    assert not Path("PWNED").exists()


def test_a_table_with_a_call_inside_a_cell_is_refused(tmp_path):
    path = tmp_path / "cell.pkl"
    pd.DataFrame({"his": [Call(os.getcwd)]}).to_pickle(path)
    with pytest.raises(DataError, match="refused"):
        read_pickled_table(path)


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2])[:-3], pickle.dumps([1, 2])])
def test_what_is_no_table_is_one_line(tmp_path, content):
    path = tmp_path / "broken.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.pkl") as caught:
        read_pickled_table(path)
    assert "\n" not in str(caught.value)


def test_collm_pickles(tmp_path):
    write_collm_pickles(tmp_path)
    source = read_collm(CollmConfig(name="collm_ml1m", root=str(tmp_path)))
    rows, items = source.interactions.collect(), source.items.collect()
    assert not items["title"].str.contains("np.str_").any()
    assert dict(rows["split"].value_counts().iter_rows()) == {"train": 96, "val": 24, "test": 24}
    assert not any("0" in history for history in rows["history"])
    assert "rating" not in rows.columns


def test_collm_goes_all_the_way_to_clean_examples(tmp_path):
    write_collm_pickles(tmp_path)
    source = read_collm(CollmConfig(name="collm_ml1m", root=str(tmp_path)))
    _, examples = write_world(tmp_path / "w", source, "provided", ["ctr", "topk"])
    table = pd.read_parquet(examples / "examples.parquet")
    assert (table["task"] == "ctr").sum() == 144


def test_a_missing_file_and_a_missing_column_are_named(tmp_path):
    cfg = CollmConfig(name="collm_ml1m", root=str(tmp_path))
    with pytest.raises(DataError, match=r"dataset.root: .* lacks train_ood2.pkl, valid_ood2.pkl, test_ood2.pkl"):
        source_hashes(cfg)
    write_collm_pickles(tmp_path)
    path = tmp_path / "valid_ood2.pkl"
    pd.read_pickle(path).drop(columns="his").to_pickle(path)
    with pytest.raises(DataError, match=r"valid_ood2.pkl: column his is missing"):
        read_collm(cfg)


@pytest.mark.parametrize(("column", "value", "text"), [("label", 3, "label is 3"), ("uid", 0, "uid is 0")])
def test_a_bad_row_is_named(tmp_path, column, value, text):
    write_collm_pickles(tmp_path)
    path = tmp_path / "test_ood2.pkl"
    table = pd.read_pickle(path)
    table.iloc[4, table.columns.get_loc(column)] = value
    table.to_pickle(path)
    with pytest.raises(DataError, match=rf"test_ood2.pkl: row 5: {text}"):
        read_collm(CollmConfig(name="collm_ml1m", root=str(tmp_path)))


def test_the_real_ml1m_split(tmp_path):
    if not SHARED_ML1M.is_dir():
        pytest.skip(f"CoLLM's ML-1M pickles are not at {SHARED_ML1M}: the published counts are not checked")
    build_dataset(CollmConfig("collm_ml1m", root=str(SHARED_ML1M)), SplitConfig("provided"), tmp_path)
    rows = pd.read_parquet(tmp_path / "interactions.parquet")
    assert rows["split"].value_counts().to_dict() == {"train": 33_891, "val": 10_401, "test": 7_331}
    assert rows.loc[rows["split"] == "test", "user"].nunique() == 320
    assert not pd.read_parquet(tmp_path / "items.parquet")["title"].str.contains("np.str_").any()


# --- built-in data


def test_synthetic_is_a_function_of_its_seed():
    rows, again = small_source().interactions.collect(), small_source().interactions.collect()
    assert rows.equals(again)
    assert small_source().items.collect()["title"].is_unique().all()
    assert not rows.select("user", "item").is_duplicated().any()
    assert set(rows["rating"]) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert 0.45 < (rows["rating"] >= 4).mean() < 0.55
    assert rows.height == SMALL.users * SMALL.interactions_per_user


def test_the_truth_is_above_what_text_or_counting_can_know():
    import dataclasses

    from ckf.data.readers.synthetic import make_synthetic

    source = make_synthetic(dataclasses.replace(SMALL, users=300, items=100, interactions_per_user=40))
    label = (source.interactions.collect()["rating"] >= 4).to_numpy()
    known = {name: auc(label, source.known[name].to_numpy()) for name in ("truth", "text", "counting")}
    assert known["truth"] > known["text"] + 0.05
    assert known["truth"] > known["counting"] + 0.05
    assert min(known.values()) > 0.55


def test_topics_beyond_the_written_ones_are_coined():
    import dataclasses

    from ckf.data.readers.synthetic import make_synthetic

    assert make_synthetic(dataclasses.replace(SMALL, topics=12)).items.collect()["title"].is_unique().all()
