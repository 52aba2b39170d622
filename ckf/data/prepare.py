"""Source to dataset: one pipeline behind every reader, with a count at every step.

Reader (names, types, decodes) → codes → row checks → duplicates → filters → split → final ids → tables,
manifest and dataset card. The numbers of all rows are in memory, some 40 bytes a row; review texts are only
when ``dataset.memory_mb`` has room for them, else they stream through the disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from ckf.config.schema import (
    AmazonConfig,
    CollmConfig,
    DatasetConfig,
    MovieLensConfig,
    ProcessedJsonConfig,
    RecboleConfig,
    SplitConfig,
    SyntheticConfig,
    TabularConfig,
)
from ckf.config.schema.datasets import DATE_FILTERS
from ckf.core.artifact_store import file_hash, write_json
from ckf.core.errors import DataError
from ckf.data.dataset_card import card_text
from ckf.data.dataset_stats import describe
from ckf.data.duplicates import drop_duplicates
from ckf.data.feedback import feedback_of
from ckf.data.filters import FilterLog, apply_filters
from ckf.data.id_encoding import id_mapping, to_final
from ckf.data.ingest import LoadedInteractions, Reader, disk_is_full, ingest
from ckf.data.item_table import item_table, user_table, with_train_counts
from ckf.data.readers.amazon import amazon_files, read_amazon
from ckf.data.readers.base import Source
from ckf.data.readers.collm import collm_files, read_collm
from ckf.data.readers.foreign_content import refuse_foreign_content
from ckf.data.readers.movielens import movielens_files, read_movielens
from ckf.data.readers.processed_json import processed_json_files, read_processed_json
from ckf.data.readers.recbole import read_recbole, recbole_files
from ckf.data.readers.synthetic import make_synthetic
from ckf.data.readers.tabular import read_tables, table_files
from ckf.data.splits import assign_split, in_training_share
from ckf.data.title_join import ABSENT, TitleJoin
from ckf.data.write_interactions import write_interactions

_NAMED = ("source", "licence", "citation")
SECONDS, ORDER = "seconds", "order"
"""What timestamps are: seconds since 1970, or an order alone."""


def input_files(cfg: DatasetConfig) -> list[Path]:
    """Every file that a dataset is made from; none for data that is made.

    Raises:
        DataError: an input file is missing.
    """
    match cfg:
        case SyntheticConfig():
            return []
        case CollmConfig():
            return collm_files(cfg)
        case TabularConfig():
            return table_files(cfg)
        case AmazonConfig():
            return amazon_files(cfg)
        case MovieLensConfig():
            return movielens_files(cfg)
        case RecboleConfig():
            return recbole_files(cfg)
        case ProcessedJsonConfig():
            return processed_json_files(cfg)
    raise TypeError(f"no reader for {type(cfg).__name__}; add a case in ckf/data/prepare.py")


def reader_of(cfg: DatasetConfig) -> Reader:
    """The function that reads a config's source."""
    match cfg:
        case SyntheticConfig():
            return lambda scanner: make_synthetic(cfg)
        case CollmConfig():
            return lambda scanner: read_collm(cfg)
        case TabularConfig():
            return lambda scanner: read_tables(cfg, scanner)
        case AmazonConfig():
            return lambda scanner: read_amazon(cfg, scanner)
        case MovieLensConfig():
            return lambda scanner: read_movielens(cfg, scanner)
        case RecboleConfig():
            return lambda scanner: read_recbole(cfg, scanner)
        case ProcessedJsonConfig():
            return lambda scanner: read_processed_json(cfg)
    raise TypeError(f"no reader for {type(cfg).__name__}; add a case in ckf/data/prepare.py")


def source_hashes(cfg: DatasetConfig) -> dict[str, str]:
    """Content hash of every input file by name; empty for data that is made.

    Raises:
        DataError: an input file is missing.
    """
    root = getattr(cfg, "root", None)

    def name(path: Path) -> str:
        """Parts of a table in several folders may have one name."""
        return path.relative_to(root).as_posix() if root and path.is_relative_to(root) else path.name

    return {name(path): file_hash(path) for path in input_files(cfg)}


def build_dataset(cfg: DatasetConfig, split: SplitConfig, out: Path, hashes: Mapping[str, str] | None = None) -> None:
    """Write interactions, items, users, manifest, dataset card (and the known scores of built-in data) to ``out``.

    ``hashes``: `source_hashes` where they are known; else the files are hashed while they are read.

    Raises:
        DataError: input that cannot be used, a step or split without rows, or a full disk.
    """
    refuse_foreign_content(input_files(cfg))
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: source_hashes(cfg) if hashes is None else hashes)
        write_dataset(reader_of(cfg), cfg, split, out, found.result)


def write_dataset(
    read: Reader | Source,
    cfg: DatasetConfig,
    split: SplitConfig,
    out: Path,
    hashes: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Like `build_dataset`, from a reader or a source at hand; ``hashes`` is asked at the end."""
    scratch = out / ".scratch"
    scratch.mkdir()
    reader: Reader = (lambda scanner: read) if isinstance(read, Source) else read
    try:
        _write(ingest(reader, cfg, scratch), cfg, split, out, hashes)
    except (OSError, pl.exceptions.PolarsError) as error:
        if not disk_is_full(error):
            raise
        raise DataError(f"{out.parent}: the disk is full; make room, or set paths.cache to another disk") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(
    data: LoadedInteractions, cfg: DatasetConfig, split: SplitConfig, out: Path, hashes: Callable[[], Mapping[str, str]]
) -> None:
    steps = FilterLog()
    _refuse_times(data, cfg, split)
    rows, duplicates = _kept_rows(data, cfg, split, steps)
    feedback = feedback_of(rows, data, cfg)
    user_ids = id_mapping(rows["user"], data.ids["user"])
    item_ids = id_mapping(rows["item"], data.ids["item"], data.history_items(rows["row"]))
    ids = {"user": user_ids, "item": item_ids}
    rows = rows.with_columns(to_final(rows[kind], data.ids[kind], ids[kind]).alias(kind) for kind in ids)
    rows = rows.sort("timestamp", "user", "item")
    with ThreadPoolExecutor(1) as pool:  # the long write runs in parallel to titles and counts
        written = data.scanner.scratch / "interactions.parquet"
        writing = pool.submit(write_interactions, rows, data, item_ids, cfg.memory_mb, written)
        train = rows.filter(pl.col("split") == "train")
        items, titles, join = item_table(data, item_ids)
        items = with_train_counts(items, "item", train["item"])
        users = user_table(data, user_ids, train["user"])
        described = describe(rows, items, users, split)
        writing.result()
    written.rename(out / "interactions.parquet")
    users.write_parquet(out / "users.parquet")
    items.select("item", "raw_id", "title", "n_train", pl.exclude("item", "raw_id", "title", "n_train")).write_parquet(
        out / "items.parquet"
    )
    if data.source.known is not None:
        _known(data.source.known, rows, user_ids, item_ids).write_parquet(out / "known.parquet")
    card = data.source.card
    manifest = {
        "dataset": cfg.name,
        **{key: card[key] for key in _NAMED if key in card},
        "rows_read": data.read,
        "bad_rows": {"allowed": data.bad.allowed, "total": data.bad.total, "kinds": data.bad.kinds},
        "ids_trimmed": data.trimmed,
        "duplicates": duplicates,
        "steps": steps.counts,
        "liked": _liked(data, cfg),
        "feedback": feedback.kind,
        "like_fault": feedback.fault,
        "times": SECONDS if data.is_timed else ORDER,
        "warnings": [
            *data.source.guesses,
            *_join_warnings(data, join),
            *_file_warnings(data),
            *_time_warnings(data),
            *feedback.warnings,
        ],
        **described,
        "read_with_notes": {notes.path.name: notes.to_json() for notes in data.scanner.unusual()},
        "title_join": join.to_json(),
        "reader": {key: value for key, value in {**card, **titles}.items() if key not in _NAMED},
        "files": dict(hashes()),
    }
    write_json(out / "manifest.json", manifest)
    (out / "card.md").write_text(card_text(manifest), encoding="utf-8")


def _kept_rows(
    data: LoadedInteractions, cfg: DatasetConfig, split: SplitConfig, steps: FilterLog
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The rows of the dataset with their split, under the codes of ``data.ids``; and what became of repeats."""
    rows = data.good_rows(cfg.like_threshold)
    steps.record("read", rows)
    rows, duplicates = drop_duplicates(rows, data, cfg.duplicates)
    steps.record("duplicates", rows)
    rows = apply_filters(rows, cfg.filters, steps)
    rows = rows.with_columns(split=assign_split(rows, split, data.ids["user"], data.ids["item"]))
    if rows["split"].null_count():
        rows = rows.filter(pl.col("split").is_not_null())
        steps.record(f"split {split.name}", rows)
    if split.train_fraction < 1:
        rows = rows.filter(in_training_share(rows, split, data.ids["user"], data.ids["item"]))
        steps.record(f"train fraction {split.train_fraction:g}", rows)
    return rows, duplicates


def _refuse_times(data: LoadedInteractions, cfg: DatasetConfig, split: SplitConfig) -> None:
    """Stop where times are asked for and the source has an order alone."""
    if data.is_timed:
        return
    by_time = [step.name for step in cfg.filters if step.name in DATE_FILTERS]
    if split.name == "temporal" or by_time:
        asked = "split=temporal" if split.name == "temporal" else f"the filter '{by_time[0]}'"
        raise DataError(f"{asked} needs times, and the source has an order of its rows alone; use split=leave_last_out")


def _time_warnings(data: LoadedInteractions) -> list[str]:
    if data.is_timed:
        return []
    return ["no times: the order of each user's rows in the source is taken for their order in time"]


def _liked(data: LoadedInteractions, cfg: DatasetConfig) -> str:
    if not data.is_labelled:
        return "every row (the source has neither ratings nor clicks)"
    by_rating = f"a rating of {cfg.like_threshold:g} or more (dataset.like_threshold)"
    if not data.has_clicks:
        return by_rating
    return "the source's own clicks" + (f", else {by_rating}" if data.table["rating"].count() else "")


def _file_warnings(data: LoadedInteractions) -> list[str]:
    """Rows that were left out, and what was read but not as one plain row a line."""
    found = [line for notes in data.scanner.unusual() for line in notes.warnings()]
    if data.bad.total:
        found.insert(0, f"rows left out because they cannot be used: {data.bad.total:,} (dataset.max_bad_rows)")
    return found


def _join_warnings(data: LoadedInteractions, join: TitleJoin) -> list[str]:
    found = []
    if not data.source.titled:
        found.append(ABSENT)
    elif join.titled < join.items:
        found.append(join.text())
    found += [
        f"{rows:,} rows had white space around their {kind} id; it is left out"
        for kind, rows in data.trimmed.items()
        if rows
    ]
    return found


def _known(known: pl.DataFrame, rows: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """The built-in data's scores under final ids, for the pairs that are left."""
    for kind, ids in (("user", users), ("item", items)):
        named = ids.rename({"raw_id": kind, "id": f"{kind}_id"})
        known = known.join(named, on=kind, how="inner", maintain_order="left").drop(kind).rename({f"{kind}_id": kind})
    left: Any = rows.select("user", "item")
    known = known.join(left, on=["user", "item"], how="semi", maintain_order="left")
    return known.select("user", "item", pl.exclude("user", "item"))
