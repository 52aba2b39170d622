"""An audit that stops: nothing of the examples is kept, but its report is, where the message says."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from ckf.config.compose import compose
from ckf.data.audit import LeakError
from ckf.pipeline.artifacts import prepare_dataset, prepare_examples

SMALL = ["dataset.users=60", "dataset.items=50", "dataset.interactions_per_user=20", "dataset.topics=4"]


def test_the_report_of_an_audit_that_stops_is_kept(tmp_path: Path) -> None:
    exp, _ = compose(["dataset=synthetic", *SMALL, "tasks.candidates=5", f"paths.cache={tmp_path}"])
    dataset = prepare_dataset(exp)
    rows = pl.read_parquet(dataset.path / "interactions.parquet")
    oldest = pl.when(pl.int_range(pl.len()) == pl.len() - 1).then(1).otherwise("timestamp")
    rows.with_columns(timestamp=oldest).write_parquet(dataset.path / "interactions.parquet")  # a test row from 1970
    with pytest.raises(LeakError, match=r"the audit found leaks: .*split_order 1 of") as caught:
        prepare_examples(exp, dataset)
    (kept,) = (tmp_path / "audits").iterdir()
    assert str(caught.value).endswith(f"; {kept / 'audit.md'} has every line")
    assert (kept / "audit.md").read_text() == caught.value.report.to_markdown()
    assert json.loads((kept / "audit.json").read_text())["conclusion"] == "stop"
    assert not list((tmp_path / "examples").glob("*/*.parquet"))
