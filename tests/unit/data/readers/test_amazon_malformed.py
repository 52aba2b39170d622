"""Amazon dumps with broken, truncated, endless and senseless lines: a dataset or one named error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckf.config.schema import SplitConfig
from ckf.core.errors import DataError
from ckf.data.prepare import build_dataset
from ckf.data.readers.amazon import VERSIONS
from tests.unit.data.amazon_dumps import META, NAMES, build, config, review, reviews_of, write

BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("not json", {}, "not a JSON object"),
    ('{"reviewerID": "U1", "asin"', {}, "not a JSON object"),
    ("[1, 2]", {}, "a JSON list, expected an object"),
    ("", {"overall": "good"}, "overall is 'good', expected a number"),
    ("", {"overall": 17.0}, "the rating is 17, outside dataset.rating_scale [1, 5]"),
    ("", {"overall": None}, "the rating is missing"),
    ("", {"unixReviewTime": 1400000000000}, "is after the year 2100 in seconds; it looks like milliseconds"),
    ("", {"unixReviewTime": 14}, "too early for this source"),
    ("", {"reviewerID": None}, "the user id is missing"),
    ("", {"asin": " "}, "the item id is missing"),
    ("", {"asin": "A\x00"}, "holds a control character"),
]


@pytest.mark.parametrize("version", [2014, 2018])
@pytest.mark.parametrize(("text", "change", "problem"), BROKEN)
def test_a_broken_review_is_named_or_counted(
    tmp_path: Path, version: int, text: str, change: dict[str, Any], problem: str
) -> None:
    bad = text or {**review(version, "U9", "I1", 3.0, 1400000099), **change}
    lines = [*reviews_of(version)[:7], bad, *reviews_of(version)[7:]]
    with pytest.raises(DataError) as caught:
        build(tmp_path, version, lines, META[version])
    assert f"{NAMES[version][0]}: line 8: " in str(caught.value)
    assert problem in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()
    manifest = build(tmp_path, version, lines, META[version], max_bad_rows=1)
    assert (manifest["rows_read"], manifest["bad_rows"]["total"]) == (21, 1)
    assert any(
        ":" in line and "line 8" in line for kind in manifest["bad_rows"]["kinds"].values() for line in kind["first"]
    )


@pytest.mark.parametrize("version", [2018, 2023])
def test_broken_metadata_are_named_or_counted(tmp_path: Path, version: int) -> None:
    meta = [META[version][0], '{"asin": "I2", "title": "op', {**META[version][0], VERSIONS[version].item: "I3"}]
    with pytest.raises(DataError, match=rf"{NAMES[version][1]}: line 2: not a JSON object"):
        build(tmp_path, version, reviews_of(version), meta)
    manifest = build(tmp_path, version, reviews_of(version), meta, max_bad_rows=1)
    assert manifest["bad_rows"]["total"] == 1
    assert manifest["reader"]["titles_usable"] == 2


@pytest.mark.parametrize("version", [2014, 2018, 2023])
@pytest.mark.parametrize("which", [0, 1])
def test_a_truncated_file_is_named(tmp_path: Path, version: int, which: int) -> None:
    many = [review(version, f"U{k}", f"I{k % 5}", 5, 1400000000 + k, f"text {k * 7919}") for k in range(3000)]
    write(tmp_path, version, many, [{**META[version][0], "title": f"t {k * 7919}"} for k in range(3000)])
    path = tmp_path / NAMES[version][which]
    path.write_bytes(path.read_bytes()[:-600])
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=rf"{path.name}: truncated or broken gzip after line \d+"):
        build_dataset(config(tmp_path, version, max_bad_rows=9), SplitConfig(name="temporal"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_line_of_fifty_megabytes(tmp_path: Path) -> None:
    long = review(2018, "U1", "I1", 5, 1400000000, "x" * 50_000_000)
    with pytest.raises(
        DataError, match=r"Toys_5\.json\.gz: line 21: (47\.7 MiB; at most|the review is longer than) 16 MiB"
    ):
        build(tmp_path, 2018, [*reviews_of(2018), long], META[2018])


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**13)
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.integers(), max_size=2)
)
FIELDS = st.sampled_from(["reviewerID", "asin", "overall", "reviewText", "unixReviewTime", "vote"])


@given(
    st.lists(
        st.dictionaries(FIELDS, VALUES, max_size=5) | st.text(st.characters(exclude_characters="\n\r"), max_size=8),
        max_size=4,
    ),
    st.lists(st.dictionaries(st.sampled_from(["asin", "title", "brand", "category"]), VALUES, max_size=4), max_size=3),
    st.integers(0, 4),
    st.sampled_from([2014, 2018]),
)
@settings(max_examples=60, deadline=None)
def test_rubbish_is_a_dataset_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Any], meta: list[Any], allowed: int, version: int
) -> None:
    root = tmp_path_factory.mktemp("rubbish")
    whole = [{**review(version, "U1", "I1", 3, 1400000050), **x} if isinstance(x, dict) else x for x in lines]
    message, manifest = "", {}
    try:
        manifest = build(root, version, reviews_of(version) + whole, META[version] + meta, max_bad_rows=allowed)
    except DataError as error:
        message = str(error)
    assert bool(message) != bool(manifest)
    assert "\n" not in message
    assert not message or "line " in message
    if manifest:
        blank = sum(isinstance(x, str) and not x.strip() for x in whole)
        assert manifest["rows_read"] == 20 + len(whole) - blank
        assert manifest["rows_read"] - manifest["bad_rows"]["total"] == manifest["steps"][0]["rows"]
