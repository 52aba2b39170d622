"""Amazon reviews of three generations: fields, wrong files, the real files beside the project, the pipeline."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ckf.config.schema import AmazonConfig
from ckf.core.errors import DataError
from ckf.data.readers.amazon import amazon_files, read_amazon
from ckf.data.readers.polars_scan import Scanner
from tests.unit.data.amazon_dumps import (
    META,
    NAMES,
    build,
    config,
    read,
    review,
    reviews_of,
    with_items,
    write,
    zipped,
)


@pytest.mark.parametrize("version", [2014, 2018, 2023])
def test_each_generation(tmp_path: Path, version: int) -> None:
    reviews = [
        review(version, "U1", "I1", 4.0, 1400000000, "so &#34;good&#34;<br />yes &amp;lt;"),
        review(version, "U2", "I1", 1.0, 1400000001, None),
    ]
    write(tmp_path, version, reviews, META[version])
    source = read(tmp_path, version, tmp_path)
    rows = source.interactions.collect().to_dicts()
    assert rows[0] == {
        "line": 1, "user": "U1", "item": "I1", "rating": 4.0, "timestamp": 1400000000, "review": 'so "good" yes &lt;',
    }  # fmt: skip
    assert rows[1]["review"] is None
    assert source.items.collect().select("item", "title", "categories").rows() == [("I1", "It's & new", "Cars")]
    assert source.card["titles_usable"] == source.card["titles_with_entities_decoded"] == 1


@pytest.mark.parametrize("version", [2014, 2018, 2023])
def test_unpacked_files_are_read_too(tmp_path: Path, version: int) -> None:
    for name, lines, literal in zip(
        NAMES[version],
        ([review(version, "U", "I1", 5, 1400000000)], META[version]),
        (False, version == 2014),
        strict=True,
    ):
        zipped(tmp_path / name.removesuffix(".gz"), lines, literal)
    assert read(tmp_path, version, tmp_path).interactions.collect().height == 1


# --- wrong files ------------------------------------------------------------------------------


def test_files_of_another_version_are_named(tmp_path: Path) -> None:
    write(tmp_path, 2018, [review(2018, "U", "I1", 5, 1400000000)], META[2018])
    with pytest.raises(
        DataError, match=r"lacks reviews_Toys_5\.json\.gz .*; Toys_5\.json\.gz is of dataset\.version=2018"
    ):
        amazon_files(config(tmp_path, 2014))
    with pytest.raises(
        DataError, match=r"lacks Books_5\.json\.gz, .*there are Toys_5\.json\.gz: is dataset\.category=Books right"
    ):
        amazon_files(AmazonConfig(name="amazon", root=str(tmp_path), category="Books", version=2018))
    with pytest.raises(DataError, match=r"nowhere lacks"):
        amazon_files(config(tmp_path / "nowhere", 2018))


@pytest.mark.parametrize(("held", "asked"), [(2018, 2014), (2023, 2014), (2014, 2018), (2023, 2018), (2014, 2023)])
def test_content_of_another_version_is_recognised(tmp_path: Path, held: int, asked: int) -> None:
    reviews, meta = [review(held, "U", "I1", 5, 1400000000)], META[held]
    zipped(tmp_path / NAMES[asked][0], reviews)
    zipped(tmp_path / NAMES[asked][1], META[asked], literal=asked == 2014)
    expected = rf"{NAMES[asked][0]}: line 1: reviews of version {held}, but dataset.version is {asked}; set dataset"
    with pytest.raises(DataError, match=expected):
        amazon_files(config(tmp_path, asked))
    zipped(tmp_path / NAMES[asked][0], [review(asked, "U", "I1", 5, 1400000000)])
    zipped(tmp_path / NAMES[asked][1], meta, literal=held == 2014)
    with pytest.raises(DataError, match=rf"{NAMES[asked][1]}: line 1: metadata of version {held}"):
        amazon_files(config(tmp_path, asked))


def test_swapped_files_are_recognised(tmp_path: Path) -> None:
    zipped(tmp_path / NAMES[2018][0], META[2018])
    zipped(tmp_path / NAMES[2018][1], [review(2018, "U", "I1", 5, 1400000000)])
    with pytest.raises(DataError, match=r"Toys_5\.json\.gz: line 1: holds metadata \(of version 2018\), not reviews"):
        amazon_files(config(tmp_path, 2018))


# --- the files beside the project -------------------------------------------------------------

SHARED = Path(__file__).parents[5] / "shared" / "data"
MUSIC, MAGAZINES = SHARED / "amazon2014-digital-music-partial", SHARED / "amazon2018-magazine-subscriptions"


@pytest.mark.skipif(not MUSIC.is_dir(), reason=f"{MUSIC} is absent")
def test_digital_music(tmp_path: Path) -> None:
    cfg = AmazonConfig(name="amazon", root=str(MUSIC), category="Digital_Music", version=2014)
    source = with_items(read_amazon(cfg, Scanner(tmp_path)))
    rows = source.interactions.collect()
    assert (rows.height, rows["user"].n_unique(), rows["item"].n_unique()) == (6908, 2490, 382)
    assert source.card["titles_usable"] == 382
    assert not rows["review"].str.contains("&#34;|&quot;").any()


@pytest.mark.skipif(not MAGAZINES.is_dir(), reason=f"{MAGAZINES} is absent")
def test_magazine_subscriptions(tmp_path: Path) -> None:
    cfg = AmazonConfig(name="amazon", root=str(MAGAZINES), category="Magazine_Subscriptions", version=2018)
    source = with_items(read_amazon(cfg, Scanner(tmp_path)))
    rows = source.interactions.collect()
    assert (rows.height, rows["user"].n_unique(), rows["item"].n_unique()) == (2375, 348, 157)
    assert (source.card["titles_usable"], source.card["titles_replaced_by_brand_and_category"]) == (3, 148)
    assert not source.items.collect()["title"].str.contains("<").any()


@pytest.mark.parametrize("version", [2014, 2018, 2023])
def test_prepared(tmp_path: Path, version: int) -> None:
    extra = [review(version, "U0", "I0", 1, 1400000000, "words 0")]  # one more of the user's, of the same second
    manifest = build(tmp_path, version, reviews_of(version) + extra + reviews_of(version)[:2], META[version])
    assert manifest["rows_read"] == 23
    assert [step["rows"] for step in manifest["steps"]][:2] == [23, 20]
    assert manifest["reader"]["titles_usable"] == 1
    assert manifest["reader"]["items_without_metadata"] == 4
    titles = pl.read_parquet(tmp_path / "out" / "items.parquet").sort("raw_id")["title"].to_list()
    assert titles == ["I0", "It's & new", "I2", "I3", "I4"]
