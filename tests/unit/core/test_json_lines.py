"""Files of one JSON object a line: a missing file, a broken line, a last line that was cut short."""

from __future__ import annotations

import pytest

from ckf.core.artifact_store import read_json_lines
from ckf.core.errors import ArtifactError, first_line


def test_lines_come_in_order_and_a_missing_file_has_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_json_lines(path) == []
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert read_json_lines(path) == [{"step": 1}, {"step": 2}]


def test_a_cut_last_line_is_dropped_only_where_it_is_allowed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"ste')
    assert read_json_lines(path, drop_cut_end=True) == [{"step": 1}]
    with pytest.raises(ArtifactError, match="line 2 is not JSON"):
        read_json_lines(path)


def test_a_broken_line_before_the_last_is_never_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"ste\n{"step": 2}\n')
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl: line 1 is not JSON"):
        read_json_lines(path, drop_cut_end=True)


def test_an_error_without_a_message_is_named_by_its_type():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("")) == "ValueError"
