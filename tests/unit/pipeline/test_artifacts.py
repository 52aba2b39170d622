"""Tasks of likes and dislikes on data that hold one of the two, and the warnings that a dataset leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ckf.config.compose import compose
from ckf.core.artifact_store import Artifact
from ckf.core.errors import DataError
from ckf.pipeline.artifacts import check_likes, data_warnings


def dataset(folder: Path, **manifest: object) -> Artifact:
    (folder / "manifest.json").write_text(json.dumps({"interactions": 120, **manifest}))
    return Artifact(folder, "0", reused=True)


@pytest.mark.parametrize(
    ("task", "manifest", "line"),
    [
        ("ctr", {"feedback": "implicit"}, r"ctr: all 120 rows are likes .*; use tasks=ctr_sampled .* or tasks=topk"),
        ("ctr", {"like_fault": "dataset.like_threshold=4 makes"}, "ctr: dataset.like_threshold=4 makes"),
        ("topk", {"feedback": "implicit"}, None),
        ("ctr", {"feedback": "explicit", "like_fault": None}, None),
        ("ctr", {}, None),
    ],
)
def test_ctr_needs_both_classes(tmp_path, task, manifest, line):
    exp = compose([f"tasks={task}"])[0]
    if line is None:
        check_likes(exp, dataset(tmp_path, **manifest))
        return
    with pytest.raises(DataError, match=line):
        check_likes(exp, dataset(tmp_path, **manifest))


def test_warnings_are_those_of_the_manifest(tmp_path):
    assert data_warnings(dataset(tmp_path, warnings=["no times"]).path) == ["no times"]
    assert data_warnings(dataset(tmp_path).path) == []
