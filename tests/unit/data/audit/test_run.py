"""Leaks of each kind planted one at a time: every one is caught under its name, and clean data raises no alarm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from ckf.cf.fit import build_cf
from ckf.config.schema import BiasConfig, SyntheticConfig
from ckf.data.audit import LeakError, audit, audit_artifacts, raise_on_violation, write_audit
from ckf.data.interaction_keys import TRAINED_ON, raw_ids, row_keys
from ckf.data.readers.synthetic import make_synthetic
from tests.unit.data import leaks_in_lists, leaks_in_tables, leaks_of_the_past
from tests.unit.data.planted import Planted
from tests.worlds import small_source, write_world


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_world(tmp_path_factory.mktemp("clean"), small_source())


@pytest.fixture
def planted(clean: tuple[Path, Path], tmp_path: Path) -> Planted:
    for folder in clean:
        shutil.copytree(folder, tmp_path / folder.name)
    return Planted(tmp_path / "dataset", tmp_path / "examples")


KINDS: list[Callable[[Planted], None]] = [
    kind
    for module in (leaks_of_the_past, leaks_in_lists, leaks_in_tables)
    for kind in vars(module).values()
    if getattr(kind, "__module__", "") == module.__name__
]
WARNED = {"reviews_name_the_rating", "sequential_user_ids"}


@pytest.mark.parametrize("plant", KINDS, ids=lambda plant: plant.__name__)
def test_a_planted_leak_is_caught_under_its_name(planted: Planted, plant: Callable[[Planted], None]) -> None:
    plant(planted)
    planted.save()
    report = audit(planted.dataset, planted.folder)
    line = report[plant.__name__]
    assert line.level == ("warn" if plant.__name__ in WARNED else "stop")
    if line.level == "stop":
        assert line.first or plant.__name__ in (
            "candidate_position",
            "negatives_avoid_held_out",
            "histories_shared_by_users",
        )
        with pytest.raises(LeakError, match=plant.__name__):
            raise_on_violation(report)


def test_every_kind_is_planted_once() -> None:
    assert len({plant.__name__ for plant in KINDS}) == len(KINDS) >= 35


def test_clean_data_raises_no_alarm(clean: tuple[Path, Path]) -> None:
    report = audit(*clean)
    assert report.conclusion == "pass", report.to_markdown()
    raise_on_violation(report)


WARNED_BY_SPLIT = {
    "temporal": set(),
    # training knows other users' future, and one test row a user has one class
    "leave_last_out": {"future_across_users", "uauc_users_val", "uauc_users_test"},
    # users or items are held out whole, whenever they were there
    "user_cold": {"future_across_users"},
    "item_cold": {"future_across_users", "val_history_from_test"},
}


@pytest.mark.parametrize("seed", [3, 4, 5])
@pytest.mark.parametrize("split", WARNED_BY_SPLIT)
def test_no_false_stop_on_other_clean_worlds(tmp_path: Path, seed: int, split: str) -> None:
    cfg = SyntheticConfig(
        name="synthetic", users=120, items=80, interactions_per_user=15, topics=4, hidden_dims=2, data_seed=seed
    )
    report = audit(*write_world(tmp_path, make_synthetic(cfg), split))
    assert not report.of_level("stop")
    assert {line.name for line in report.of_level("warn")} == WARNED_BY_SPLIT[split]


def test_a_cf_model_trained_on_test_rows_is_caught(clean: tuple[Path, Path], tmp_path: Path) -> None:
    build_cf(BiasConfig(name="bias"), *clean, 0, tmp_path)
    name = f"cf_trained_on_train {tmp_path.name}"
    assert audit_artifacts(*clean, [tmp_path])[name].level == "pass"
    rows = pq.read_table(clean[0] / "interactions.parquet").to_pandas()
    names = raw_ids(clean[0], "user"), raw_ids(clean[0], "item")
    everything = row_keys(*(rows[column].to_numpy() for column in ("user", "item", "timestamp")), of=names)
    pd.DataFrame({"key": everything}).to_parquet(tmp_path / TRAINED_ON)
    line = audit_artifacts(*clean, [tmp_path])[name]
    assert (line.level, line.count) == ("stop", int((rows["split"] != "train").sum()))
    card = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**card, "trained_on": "unknown"}))
    assert audit_artifacts(*clean, [tmp_path])[name].level == "warn"


def test_the_report_is_written_for_machines_and_readers(clean: tuple[Path, Path], tmp_path: Path) -> None:
    report = audit(*clean)
    write_audit(report, tmp_path)
    told = json.loads((tmp_path / "audit.json").read_text())
    assert told["conclusion"] == "pass"
    assert {line["name"] for line in told["lines"]} == {line.name for line in report.lines}
    text = (tmp_path / "audit.md").read_text()
    assert text.startswith("# Audit: pass\n")
    assert all(f" {line.name} " in text for line in report.lines)
    assert json.loads((clean[1] / "audit.json").read_text()) == told, "prepare has written the same"
    assert json.loads((clean[1] / "manifest.json").read_text())["audit"]["split_order"]["level"] == "pass"
