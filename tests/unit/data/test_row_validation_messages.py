"""What the line for a bad row says: the source's own column, the time before 1970, the number of the row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ckf.core.errors import DataError
from tests.unit.data.readers.small_sources import FORMATS, prepared


def refusal(tmp_path: Path, name: str, line: int, old: str, new: str) -> str:
    """Spoil one line of the interactions; the line that the reader says."""
    root = tmp_path / "in"
    root.mkdir()
    cfg = FORMATS[name].write(root)
    path = root / next(iter(FORMATS[name].files()))
    lines = path.read_text().split("\n")
    assert old in lines[line - 1], lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        prepared(cfg, tmp_path / "out")
    assert f"line {line}: " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["csv", "recbole", "ml100k", "ml1m", "ml_latest", "amazon2018"])
def test_a_negative_time_is_before_1970(tmp_path, name):
    assert "the timestamp -1500" in (text := refusal(tmp_path, name, 3, "1500", "-1500"))
    assert "is before 1970" in text


@pytest.mark.parametrize(
    ("name", "column"),
    [("amazon2023", "parent_asin"), ("amazon2018", "asin"), ("csv", "item"), ("ml_latest", "movieId")],
)
def test_a_missing_id_is_named_by_the_sources_own_column(tmp_path, name, column):
    row = next(iter(FORMATS[name].files().values())).split("\n")[2]
    if FORMATS[name].json:
        held = json.loads(row)[column]
        text = refusal(tmp_path, name, 3, f'"{column}": "{held}"', f'"{column}": null')
    else:
        user, item, *_ = row.split(",")
        text = refusal(tmp_path, name, 3, f"{user},{item},", f"{user},,")
    assert f"the item id is missing ({column})" in text if column != "item" else "the item id is missing" in text


def test_a_file_without_parent_asin_is_named(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    cfg = FORMATS["amazon2023"].write(root)
    path = root / "X.jsonl"
    path.write_text(path.read_text().replace("parent_asin", "asin"))
    with pytest.raises(DataError, match=r"X.jsonl: line 1: the item id is missing \(parent_asin\)"):
        prepared(cfg, tmp_path / "out")
