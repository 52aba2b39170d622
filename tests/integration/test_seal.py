"""The seal: what is trained or chosen does not read a label of the test split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from ckf.cf.fit import build_cf
from ckf.config.compose import compose
from ckf.data.example_table import ExampleTable
from ckf.model.tiny_backbone import corpus
from ckf.runs.folder import create_run, read_run
from ckf.train.distributed.worker import train_run
from tests.integration.conftest import SMALL

TASKS = ["ctr", "rating", "topk", "explain"]


def destroy_test_rows(examples: Path) -> int:
    """Overwrite every byte of the row groups that hold test examples; returns how many groups."""
    path = examples / "examples.parquet"
    meta = pq.ParquetFile(path).metadata
    place = meta.schema.names.index("split")
    spans = []
    for number in range(meta.num_row_groups):
        group = meta.row_group(number)
        found = group.column(place).statistics
        assert found.min == found.max, "a row group holds one split"
        if found.min == "test":
            columns = [group.column(c) for c in range(group.num_columns)]
            starts = [c.dictionary_page_offset or c.data_page_offset for c in columns]
            spans += [(start, c.total_compressed_size) for start, c in zip(starts, columns, strict=True)]
    content = bytearray(path.read_bytes())
    for start, size in spans:
        content[start : start + size] = b"\xff" * size
    path.chmod(0o644)
    path.write_bytes(bytes(content))
    return len(spans)


def trained_weights(finished: Path, folder: Path, examples: Path) -> dict:
    """Train the finished run's config again, from given examples, in a folder of its own."""
    exp, metadata = read_run(finished)
    artifacts = {**metadata["artifacts"], "examples": {**metadata["artifacts"]["examples"], "path": str(examples)}}
    create_run(folder, exp, artifacts)
    train_run(folder, None)
    return {
        name: load_file(folder / name) for name in ("fusion.safetensors", "adapters/shared/adapter_model.safetensors")
    }


def test_training_opens_no_test_row(finished, tmp_path):
    """With every test example destroyed on disk, training runs and ends where it ended before."""
    metadata = read_run(finished)[1]
    examples = tmp_path / "examples"
    shutil.copytree(metadata["artifacts"]["examples"]["path"], examples)
    assert destroy_test_rows(examples) > 0
    with pytest.raises((OSError, pa.ArrowException)):
        ExampleTable(examples / "examples.parquet", "test", TASKS)
    again = trained_weights(finished, tmp_path / "run", examples)
    for name, tensors in again.items():
        before = load_file(finished / name)
        assert all((tensors[key] == before[key]).all() for key in before), name


def poisoned(dataset: Path, folder: Path) -> Path:
    """A copy of a dataset in which every test label, rating and review is another."""
    shutil.copytree(dataset, folder)
    rows = pd.read_parquet(folder / "interactions.parquet")
    test = rows["split"] == "test"
    rows.loc[test, "click"] = 1 - rows.loc[test, "click"]
    rows.loc[test, "rating"] = 6 - rows.loc[test, "rating"]
    rows.loc[test, "review"] = "lies"
    (folder / "interactions.parquet").chmod(0o644)
    rows.to_parquet(folder / "interactions.parquet", index=False)
    assert test.any()
    return folder


@pytest.mark.parametrize("cf", ["mf", "bias", "sasrec"])
def test_no_cf_model_changes_with_the_test_labels(finished, tmp_path, cf):
    metadata = read_run(finished)[1]
    dataset, examples = (Path(metadata["artifacts"][name]["path"]) for name in ("dataset", "examples"))
    cfg = compose([*(line for line in SMALL if not line.startswith("cf.")), f"cf={cf}", "fusion=none"])[0].cf
    if hasattr(cfg, "epochs"):
        cfg.epochs = 2
    outs = []
    for name, data in (("clean", dataset), ("poisoned", poisoned(dataset, tmp_path / "data"))):
        out = tmp_path / name
        out.mkdir()
        build_cf(cfg, data, examples, 0, out)
        outs.append(pd.read_parquet(out / "predictions.parquet"))
    pd.testing.assert_frame_equal(*outs)


def test_the_backbone_reads_no_test_text(finished, tmp_path):
    dataset = Path(read_run(finished)[1]["artifacts"]["dataset"]["path"])
    assert corpus(dataset, 0) == corpus(poisoned(dataset, tmp_path / "data"), 0)


def test_every_look_at_the_test_split_is_noted_and_reported(finished):
    from ckf.report.build import report

    lines = [json.loads(line) for line in (finished / "evaluations.jsonl").read_text().splitlines()]
    looks = [line for line in lines if line["split"] == "test"]
    assert looks[0]["verb"] == "evaluate"
    assert looks[0]["examples"] == pd.read_parquet(finished / "predictions" / "test.parquet")["example_id"].nunique()
    report([finished], finished)
    assert f"test split scored {len(looks)} time" in (finished / "report.md").read_text()
