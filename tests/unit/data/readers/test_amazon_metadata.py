"""Metadata of Amazon's dumps: literals never evaluated, broken lines counted, unusable titles replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckf.core.errors import DataError
from ckf.data.readers.python_literals import parse_literal
from tests.unit.data.amazon_dumps import META, read, review, write


def test_broken_literals_are_counted_with_their_lines_up_to_the_limit(tmp_path: Path) -> None:
    meta = [
        META[2014][0],
        "{'asin': 'I2', 'title': 'open",
        "{'asin': 'I9', 'never': parsed(",
        "[1, 2]",
        "{'title': 'x'}",
    ]
    write(tmp_path, 2014, [review(2014, "U", item, 5, 1400000000) for item in ("I1", "I2", "I3")], meta)
    with pytest.raises(DataError, match=r"meta_Toys\.json\.gz: line 2: not a Python literal .*max_bad_rows allows 0"):
        read(tmp_path, 2014, tmp_path)
    card = read(tmp_path, 2014, tmp_path, max_bad_rows=3).card
    assert (card["metadata_lines_unreadable"], card["metadata_lines_unreadable_at"]) == (3, [2, 4, 5])
    assert (card["titles_usable"], card["items_without_metadata"], card["titles_replaced_by_raw_id"]) == (1, 2, 2)
    with pytest.raises(DataError, match="line 5: asin is None"):
        read(tmp_path, 2014, tmp_path, max_bad_rows=2)


def test_a_literal_is_never_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    meta = ["{'asin': 'I1', 'title': open('PWNED', 'w').name}", "__import__('os').system('touch PWNED')"]
    write(tmp_path, 2014, [review(2014, "U", "I1", 5, 1400000000)], meta)
    card = read(tmp_path, 2014, tmp_path, max_bad_rows=5).card
    assert card["metadata_lines_unreadable_at"] == [1, 2]
    assert not Path("PWNED").exists()


def test_metadata_of_other_items_are_not_even_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckf.data.readers import amazon

    parsed = []
    monkeypatch.setattr(amazon, "parse_literal", lambda line: parsed.append(line) or parse_literal(line))
    meta = [{"asin": f"I{i}", "title": f"t{i}"} for i in range(50)] + [{"title": "late", "asin": "I77"}]
    write(tmp_path, 2014, [review(2014, "U", "I7", 5, 1400000000)], meta)
    assert read(tmp_path, 2014, tmp_path).items.collect()["title"].to_list() == ["t7"]
    assert len(parsed) == 2  # I7, and the line whose first key is another


def test_repeated_metadata_keep_the_first_usable_title(tmp_path: Path) -> None:
    scrap = '<span class="a-size-medium a-color-secondary" title="x">By'
    rows = [
        {"asin": "I1", "title": title, "brand": "B", "category": [], "main_cat": "Toys"}
        for title in (scrap, "Good", "Late")
    ]
    write(tmp_path, 2018, [review(2018, "U", "I1", 5, 1400000000)], rows)
    source = read(tmp_path, 2018, tmp_path)
    assert source.items.collect()["title"].to_list() == ["Good"]
    assert source.card["metadata_rows_repeated"] == 2


def test_unusable_titles_are_replaced_and_counted(tmp_path: Path) -> None:
    scrap = '<span class="a-size-medium">'
    rows = [
        {"asin": "I1", "title": scrap, "brand": "Ann &amp; Co", "category": ["Toys", "Cars &amp; Go", scrap]},
        {"asin": "I2", "title": "", "brand": "Visit Amazon's Bob Page", "category": "Toys", "main_cat": scrap},
        {"asin": "I3", "title": "var aPageStart = (new Date()).getTime();", "brand": "by\n  Cy", "category": []},
        {"asin": "I4", "title": "***", "brand": scrap, "category": ["Toys"], "main_cat": "Toys"},
        {"asin": "I5", "title": 7, "brand": None, "category": [[["deep"]]]},
    ]  # fmt: skip
    items = [f"I{i}" for i in range(1, 7)]
    write(tmp_path, 2018, [review(2018, "U", item, 5, 1400000000) for item in items], rows)
    source = read(tmp_path, 2018, tmp_path)
    # without a usable title or metadata none is given: the raw id is put in where all titles are counted
    assert source.items.collect()["title"].to_list() == ["Ann & Co (Cars & Go)", "Bob (Toys)", "Cy", None, "7"]
    assert {k: v for k, v in source.card.items() if v and k.startswith(("titles", "items"))} == {
        "titles_usable": 1,
        "titles_replaced_by_brand_and_category": 2,
        "titles_replaced_by_brand": 1,
        "titles_replaced_by_raw_id": 2,
        "items_without_metadata": 1,
    }
