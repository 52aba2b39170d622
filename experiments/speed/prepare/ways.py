"""One way of "read, filter, sort, write" on the made reviews, timed: ckf, ckf_steps, pandas or rows.

Usage: python ways.py WAY FOLDER; prints JSON with seconds, CPU seconds, peak GiB and rows written. Imports are
not timed.
``ckf`` is the whole of ``prepare`` (it also hashes the files, checks rows, splits, reads titles and
writes the card). ``ckf_steps`` is ckf's own code for what the other ways do as well, with its checks and split
but without file hash, titles, counts and card. ``pandas`` reads with ``read_json(lines=True)``. ``rows`` walks
lines and rows one by one in Python, as preparation notebooks do.
"""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from ckf.config.schema import AmazonConfig, FilterConfig, SplitConfig
from ckf.data.duplicates import drop_duplicates
from ckf.data.filters import FilterLog, apply_filters
from ckf.data.id_encoding import id_mapping, to_final
from ckf.data.ingest import ingest
from ckf.data.prepare import build_dataset, reader_of
from ckf.data.splits import assign_split
from ckf.data.write_interactions import write_interactions

K = 5
REVIEWS = "reviews_Made_5.json"


def by_ckf(folder: Path, out: Path) -> int:
    """The real code path: dataset=amazon version=2014, filters=[k_core 5]."""
    build_dataset(_config(folder), SplitConfig("temporal"), out)
    return int(json.loads((out / "manifest.json").read_text())["interactions"])


def by_ckf_steps(folder: Path, out: Path) -> int:
    """Reading, checks, repeats, filters, split, ids, sorting and writing: the same interactions as `by_ckf`."""
    cfg = _config(folder)
    data = ingest(reader_of(cfg), cfg, out)
    rows, _ = drop_duplicates(data.good_rows(cfg.like_threshold), data, cfg.duplicates)
    rows = apply_filters(rows, cfg.filters, FilterLog())
    rows = rows.with_columns(split=assign_split(rows, SplitConfig("temporal"), data.ids["user"], data.ids["item"]))
    ids = {kind: id_mapping(rows[kind], names) for kind, names in data.ids.items()}
    rows = rows.with_columns(to_final(rows[kind], data.ids[kind], ids[kind]).alias(kind) for kind in ids)
    rows = rows.sort("timestamp", "user", "item")
    write_interactions(rows, data, ids["item"], cfg.memory_mb, out / "interactions.parquet")
    return rows.height


def _config(folder: Path) -> AmazonConfig:
    return AmazonConfig("amazon", root=str(folder), category="Made", version=2014, filters=[FilterConfig("k_core", K)])


def _reviews(folder: Path) -> Path:
    """The file, gzipped or not."""
    plain = folder / REVIEWS
    return plain if plain.exists() else plain.with_name(f"{REVIEWS}.gz")


def by_pandas(folder: Path, out: Path) -> int:
    """Whole columns in pandas."""
    rows = pd.read_json(_reviews(folder), lines=True)
    rows = rows[["reviewerID", "asin", "overall", "unixReviewTime", "reviewText"]]
    rows = rows.sort_values("unixReviewTime").drop_duplicates(["reviewerID", "asin"])
    while True:
        enough = [rows.groupby(key)[key].transform("size") >= K for key in ("reviewerID", "asin")]
        kept = rows[enough[0] & enough[1]]
        if len(kept) == len(rows):
            break
        rows = kept
    rows = rows.sort_values(["unixReviewTime", "reviewerID", "asin"])
    rows.to_parquet(out / "interactions.parquet")
    return len(rows)


def by_rows(folder: Path, out: Path) -> int:
    """Row by row: a list of dicts, a table walked with iloc for every pass, Python sorting."""
    parsed = []
    path = _reviews(folder)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            parsed.append(json.loads(line))
    table = pd.DataFrame(parsed)
    seen: set[tuple[str, str]] = set()
    rows: list[dict[str, Any]] = []
    for place in range(len(table)):
        row = table.iloc[place]
        pair = row["reviewerID"], row["asin"]
        if pair not in seen:
            seen.add(pair)
            rows.append({key: row[key] for key in ("reviewerID", "asin", "overall", "unixReviewTime", "reviewText")})
    while True:
        users = Counter(row["reviewerID"] for row in rows)
        items = Counter(row["asin"] for row in rows)
        kept = [row for row in rows if users[row["reviewerID"]] >= K and items[row["asin"]] >= K]
        if len(kept) == len(rows):
            break
        rows = kept
    rows.sort(key=lambda row: (row["unixReviewTime"], row["reviewerID"], row["asin"]))
    pd.DataFrame(rows).to_parquet(out / "interactions.parquet")
    return len(rows)


def main(way: str, folder: Path) -> None:
    """Run one way in a folder of its own and print what it took."""
    out = folder / f"out-{way}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    started, cpu = time.perf_counter(), time.process_time()
    rows = {"ckf": by_ckf, "ckf_steps": by_ckf_steps, "pandas": by_pandas, "rows": by_rows}[way](folder, out)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    shutil.rmtree(out)
    found = {"way": way, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_gib": round(peak, 2)}
    print(json.dumps({**found, "rows": rows}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
