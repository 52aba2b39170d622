"""Amazon reviews of three generations: literals and titles, wrong files, duplicates, scraps, broken lines."""

from __future__ import annotations

import ast
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckf.artifacts import read_json
from ckf.config.schema import AmazonConfig, SplitConfig
from ckf.data.amazon import VERSIONS, amazon_files, read_amazon
from ckf.data.literals import MAX_CHARS, parse_literal
from ckf.data.prepare import build_dataset
from ckf.data.scan import Scanner
from ckf.data.source import Source
from ckf.data.titles import clean_title, stand_in
from ckf.errors import DataError


def config(root: Path, version: int, **more: Any) -> AmazonConfig:
    return AmazonConfig(name="amazon", root=str(root), category="Toys", version=version, **more)


def review(version: int, user: str, item: str, rating: float, time: int, text: str | None = "fine") -> dict[str, Any]:
    if version == 2023:
        row = {"rating": rating, "title": "t", "images": [], "asin": f"{item}x", "parent_asin": item, "user_id": user}
        return {**row, "timestamp": time * 1000, "text": text, "helpful_vote": 0, "verified_purchase": True}
    row = {"reviewerID": user, "asin": item, "reviewerName": "N", "overall": rating, "unixReviewTime": time}
    row |= {"summary": "s", "reviewTime": "01 1, 2014"} | ({} if text is None else {"reviewText": text})
    return {**row, "helpful": [0, 0]} if version == 2014 else {**row, "verified": True, "vote": "1,234", "image": ["u"]}


NAMES = {
    2014: ("reviews_Toys_5.json.gz", "meta_Toys.json.gz"),
    2018: ("Toys_5.json.gz", "meta_Toys.json.gz"),
    2023: ("Toys.jsonl.gz", "meta_Toys.jsonl.gz"),
}


def zipped(path: Path, lines: list[Any], literal: bool = False) -> None:
    text = "".join((x if isinstance(x, str) else repr(x) if literal else json.dumps(x)) + "\n" for x in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write(root: Path, version: int, reviews: list[Any], meta: list[Any]) -> None:
    names = NAMES[version]
    zipped(root / names[0], reviews)
    zipped(root / names[1], meta, literal=version == 2014)


def read(root: Path, version: int, scratch: Path, **more: Any) -> Source:
    """The source with its items read for all items of the reviews, as the pipeline does for those left."""
    return with_items(read_amazon(config(root, version, **more), Scanner(scratch)))


def with_items(source: Source) -> Source:
    assert callable(source.items)
    return replace(source, items=source.items(source.interactions.select("item").unique().collect()["item"]))


META = {
    2014: [{"asin": "I1", "title": "It's &amp; new", "categories": [["Toys", "Cars"]], "price": 1.5}],
    2018: [
        {"asin": "I1", "title": "It's &amp; new", "brand": "B", "category": ["Toys", "Cars"], "rank": ["1 in Toys"],
         "main_cat": "Toys", "also_buy": [], "imageURL": ["u"], "details": {"a": 1}},
    ],
    2023: [
        {"parent_asin": "I1", "title": "It's &amp; new", "store": "B", "categories": ["Toys", "Cars"],
         "main_category": "Toys", "average_rating": 4.5, "price": None},
    ],
}  # fmt: skip


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


# --- metadata ---------------------------------------------------------------------------------


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
    from ckf.data import amazon

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
    assert source.items.collect()["title"].to_list() == ["Ann & Co (Cars & Go)", "Bob (Toys)", "Cy", "I4", "7", "I6"]
    assert {k: v for k, v in source.card.items() if v and k.startswith(("titles", "items"))} == {
        "titles_usable": 1,
        "titles_replaced_by_brand_and_category": 2,
        "titles_replaced_by_brand": 1,
        "titles_replaced_by_raw_id": 2,
        "items_without_metadata": 1,
    }


# --- literals and titles by themselves --------------------------------------------------------

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
    st.characters(exclude_categories=["Cs"])
)  # fmt: skip
NESTED = st.recursive(
    PLAIN, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text("ab'\"\\\n", max_size=4), x), max_leaves=12
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), NESTED, max_size=5))
@settings(max_examples=300, deadline=None)
def test_a_literal_is_read_as_python_would(value: dict[str, Any]) -> None:
    assert parse_literal(repr(value)) == value


@given(st.text("{}[]'\"\\,: axnuN0.1\t(-+", max_size=30))
@settings(max_examples=500, deadline=None)
def test_rubbish_is_a_value_error_or_what_python_reads(line: str) -> None:
    try:
        found = parse_literal(line)
    except ValueError:
        return
    try:
        assert ast.literal_eval(line.strip()) == found
    except (ValueError, SyntaxError):  # JSON's own: an escape that Python does not have
        assert json.loads(line) == found


@pytest.mark.parametrize(
    "line",
    [
        "{" * 100_000,
        "[" * 5000 + "]" * 5000,
        "{'a': " + "-" * 100_000 + "1}",
        "{'a': '" + "x" * MAX_CHARS + "'}",
        "{'a': '\\ud800'",
        "",
    ],
)
def test_a_line_made_to_hurt(line: str) -> None:
    with pytest.raises(ValueError, match=r"literal|longest|not a dict"):
        parse_literal(line)


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        ("The &quot;Old&quot; Man", 'The "Old" Man'),
        ("A &amp;amp; B", "A & B"),
        ("Tom  \n Sawyer\x00", "Tom Sawyer"),
        ("Bold <b>Move</b>", "Bold Move"),
        ("I <3 you", "I <3 you"),
        ("a < b > c", "a < b > c"),
        ("<Compass>", "<Compass>"),
        ("戦争と平和", "戦争と平和"),
        ("1984", "1984"),
        ("<span class='x'>By", None),
        ("&lt;span class=&quot;x&quot;&gt;By", None),
        ("<!-- hidden -->", None),
        ("!!!", None),
        ("", None),
        (None, None),
        ("x" * 5000, None),
        ("bad \ud800 half", "bad half"),
    ],
)
def test_titles(raw: str | None, title: str | None) -> None:
    assert clean_title(raw) == title


def test_stand_ins() -> None:
    assert stand_in("I", "B", "C") == ("B (C)", "brand_and_category")
    assert stand_in("I", "B", None) == ("B", "brand")
    assert stand_in("I", None, "C") == ("I", "raw_id")


# --- the files beside the project -------------------------------------------------------------

SHARED = Path(__file__).parents[4] / "shared" / "data"
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


# --- through the pipeline ---------------------------------------------------------------------


def reviews_of(version: int) -> list[Any]:
    return [review(version, f"U{k % 4}", f"I{k % 5}", k % 5 + 1, 1400000000 + k, f"words {k}") for k in range(20)]


def build(root: Path, version: int, reviews: list[Any], meta: list[Any], **more: Any) -> dict[str, Any]:
    write(root, version, reviews, meta)
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    build_dataset(config(root, version, **more), SplitConfig(name="temporal"), out)
    return read_json(out / "manifest.json")


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
