"""Leaks of each kind planted one at a time: every one is caught under its name, and clean data raises no alarm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ckf.cf.fit import build_cf
from ckf.config.schema import BiasConfig, SyntheticConfig
from ckf.data.audit import LeakError, audit, audit_artifacts, refuse_violations, write_audit
from ckf.data.keys import TRAINED_ON, raw_ids, row_keys
from ckf.data.synthetic import make_synthetic
from tests.worlds import small_source, write_world


class Planted:
    """A world's tables in memory; what is changed is written back, the rest stays as it was."""

    def __init__(self, dataset: Path, examples: Path) -> None:
        self.dataset, self.folder = dataset, examples
        self.examples = pq.read_table(examples / "examples.parquet").to_pandas()
        self.interactions = pq.read_table(dataset / "interactions.parquet").to_pandas()
        self.items = pd.read_parquet(dataset / "items.parquet")
        self.users = pd.read_parquet(dataset / "users.parquet")

    def save(self) -> None:
        for table, path in (
            (self.examples, self.folder / "examples.parquet"),
            (self.interactions, self.dataset / "interactions.parquet"),
        ):
            schema = pq.read_schema(path)
            columns = [
                pa.array(table[name].tolist(), schema.field(name).type, from_pandas=True) for name in schema.names
            ]
            pq.write_table(pa.table(columns, schema=schema), path)
        self.items.to_parquet(self.dataset / "items.parquet", index=False)
        self.users.to_parquet(self.dataset / "users.parquet", index=False)

    def index(self, task: str, split: str | None = None, history: int = 0) -> int:
        """A row of a task with at least so many history items."""
        rows = self.examples
        keep = (rows["task"] == task) & (rows["history"].str.len() >= history)
        if split:
            keep &= rows["split"] == split
        return int(rows.index[keep][0])

    def set(self, index: int, column: str, value: object) -> None:
        self.examples.at[index, column] = value

    def mine(self, index: int, split: str | None = None) -> pd.DataFrame:
        """Interactions of an example's user, oldest first."""
        row = self.examples.loc[index]
        rows = self.interactions[self.interactions["user"] == row["user"]].sort_values(["timestamp", "item"])
        return rows[rows["split"] == split] if split else rows


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_world(tmp_path_factory.mktemp("clean"), small_source())


@pytest.fixture
def planted(clean: tuple[Path, Path], tmp_path: Path) -> Planted:
    for folder in clean:
        shutil.copytree(folder, tmp_path / folder.name)
    return Planted(tmp_path / "dataset", tmp_path / "examples")


def target_in_history(p: Planted) -> None:
    i = p.index("ctr", history=2)
    p.set(i, "history", np.append(p.examples.at[i, "history"][:-1], p.examples.at[i, "item"]))


def target_title_in_history(p: Planted) -> None:
    i = p.index("ctr", history=2)
    twin, target = int(p.examples.at[i, "history"][0]), int(p.examples.at[i, "item"])
    titles = p.items.set_index("item")["title"]
    p.items.loc[p.items["item"] == twin, "title"] = titles[target].upper() + "!"


def history_not_earlier(p: Planted) -> None:
    i = p.index("ctr", "train", history=2)
    later = p.mine(i).query("click == 1")["item"].iloc[-1]
    p.set(i, "history", np.append(p.examples.at[i, "history"][1:], later))


def history_at_the_same_time(p: Planted) -> None:
    i = p.index("ctr", history=2)
    last, row = p.examples.at[i, "history"][-1], p.examples.loc[i]
    same = (p.interactions["user"] == row["user"]) & (p.interactions["item"] == last)
    p.interactions.loc[same, "timestamp"] = row["timestamp"]


def history_out_of_order(p: Planted) -> None:
    i = p.index("ctr", history=3)
    p.set(i, "history", p.examples.at[i, "history"][::-1].copy())


def history_of_another_user(p: Planted) -> None:
    i = p.index("ctr", history=2)
    met = set(p.mine(i)["item"])
    stranger = next(item for item in p.items["item"] if item not in met)
    p.set(i, "history", np.append(p.examples.at[i, "history"][1:], stranger))


def histories_shared_by_users(p: Planted) -> None:
    """The released notebook: every user gets the last row's history."""
    last = p.examples["history"].iloc[p.index("ctr", history=4)]
    p.examples["history"] = [last] * len(p.examples)


def history_holds_disliked(p: Planted) -> None:
    i = next(
        i for i in p.examples.index[p.examples["task"] == "ctr"]
        if len(p.mine(i).query(f"click == 0 and timestamp < {p.examples.at[i, 'timestamp']}"))
    )  # fmt: skip
    disliked = p.mine(i).query(f"click == 0 and timestamp < {p.examples.at[i, 'timestamp']}")["item"].iloc[0]
    p.set(i, "history", np.asarray([disliked, disliked], dtype=np.int32))


def history_lacks_items(p: Planted) -> None:
    """Truncated into a different question: the newest items are gone."""
    i = p.index("topk", history=5)
    p.set(i, "history", p.examples.at[i, "history"][:2])


def history_too_long(p: Planted) -> None:
    i = p.index("rating", history=5)
    p.set(i, "history", np.repeat(p.examples.at[i, "history"], 2))
    p.set(i, "history_ratings", np.repeat(p.examples.at[i, "history_ratings"], 2))


def train_history_from_held_out(p: Planted) -> None:
    i = p.index("ctr", "train", history=2)
    held = p.mine(i, "test")["item"].iloc[0]
    p.set(i, "history", np.append(p.examples.at[i, "history"][1:], held))


def history_ratings_differ(p: Planted) -> None:
    i = p.index("rating", history=2)
    p.set(i, "history_ratings", 6 - p.examples.at[i, "history_ratings"])


def negative_is_positive(p: Planted) -> None:
    i = p.index("topk", "test")
    row = p.examples.loc[i]
    other = next(x for x in p.mine(i).query("click == 1")["item"] if x != row["item"])
    listed = row["candidates"].copy()
    listed[(row["position"] + 1) % len(listed)] = other
    p.set(i, "candidates", listed)


def negatives_avoid_held_out(p: Planted) -> None:
    """Training negatives filtered by the positives of every split."""
    liked = p.interactions[p.interactions["click"] == 1].groupby("user")["item"].agg(set).to_dict()
    draw = np.random.default_rng(0)
    for i in p.examples.index[(p.examples["task"] == "topk") & (p.examples["split"] == "train")]:
        row = p.examples.loc[i]
        free = np.asarray([x for x in p.items["item"] if x not in liked[row["user"]]])
        listed = draw.choice(free, len(row["candidates"]), replace=False).astype(np.int32)
        listed[row["position"]] = row["item"]
        p.set(i, "candidates", listed)


def duplicate_titles_among_candidates(p: Planted) -> None:
    listed = p.examples.at[p.index("topk"), "candidates"]
    titles = p.items.set_index("item")["title"]
    p.items.loc[p.items["item"] == listed[0], "title"] = titles[int(listed[1])].lower()


def target_not_among_candidates(p: Planted) -> None:
    i = p.index("topk")
    p.set(i, "position", (p.examples.at[i, "position"] + 1) % 5)


def candidate_count(p: Planted) -> None:
    """A list cut short, as a tokenizer that truncates would."""
    i = p.examples.index[(p.examples["task"] == "topk") & (p.examples["position"] < 3)][0]
    p.set(i, "candidates", p.examples.at[i, "candidates"][:-1])


def candidate_position(p: Planted) -> None:
    """The target always first."""
    for i in p.examples.index[p.examples["task"] == "topk"]:
        row = p.examples.loc[i]
        rest = np.delete(row["candidates"], row["position"])
        p.set(i, "candidates", np.insert(rest, 0, row["item"]))
        p.set(i, "position", 0)


def candidates_as_frozen(p: Planted) -> None:
    """Another method's lists: one negative exchanged for another clean one."""
    i = p.index("topk", "test")
    row = p.examples.loc[i]
    met = {*p.mine(i)["item"], *row["candidates"]}
    listed = row["candidates"].copy()
    listed[(row["position"] + 1) % 5] = next(x for x in p.items["item"] if x not in met)
    p.set(i, "candidates", listed)


def duplicate_example_ids(p: Planted) -> None:
    p.examples = pd.concat([p.examples, p.examples.iloc[[3]]], ignore_index=True)


def pair_in_two_splits(p: Planted) -> None:
    row = p.interactions.query("split == 'train'").iloc[[0]]
    newest = p.interactions["timestamp"].max() + 1
    p.interactions = pd.concat([p.interactions, row.assign(split="test", timestamp=newest)], ignore_index=True)


def example_in_another_split(p: Planted) -> None:
    i = p.index("ctr", "test")
    p.set(i, "split", "train")


def labels_differ(p: Planted) -> None:
    i = p.index("ctr")
    p.set(i, "label", 1 - p.examples.at[i, "label"])


def warm_flags_from_train(p: Planted) -> None:
    """Warm by all interactions instead of the training ones."""
    cold = p.examples.index[~p.examples["warm_seen"]]
    p.examples.loc[cold, "warm_seen"] = True


def item_counts_from_train(p: Planted) -> None:
    """Item statistics over every split."""
    p.items["n_train"] = p.items["item"].map(p.interactions["item"].value_counts()).fillna(0).astype("int32")


def user_counts_from_train(p: Planted) -> None:
    p.users["n_train"] = p.users["user"].map(p.interactions["user"].value_counts()).fillna(0).astype("int32")


def split_order(p: Planted) -> None:
    """One test row older than all of training."""
    first = p.interactions.index[p.interactions["split"] == "test"][0]
    p.interactions.loc[first, "timestamp"] = p.interactions["timestamp"].min()


def future_across_users(p: Planted) -> None:
    first = p.interactions.index[p.interactions["split"] == "train"][0]
    p.interactions.loc[first, "timestamp"] = p.interactions["timestamp"].max() + 9


def ids_in_tables(p: Planted) -> None:
    p.users = p.users.iloc[1:]


def empty_titles(p: Planted) -> None:
    p.items.loc[4, "title"] = "  "


def empty_reviews(p: Planted) -> None:
    p.set(p.index("explain"), "review", " ")


def reviews_name_the_rating(p: Planted) -> None:
    rows = p.examples["task"] == "explain"
    p.examples.loc[rows, "review"] = [f"I give it {x:g} stars." for x in p.examples.loc[rows, "label"]]


def sequential_user_ids(p: Planted) -> None:
    """User ids given out in the order of first appearance."""
    first = p.interactions.groupby("user")["timestamp"].min().sort_values()
    new = pd.Series(np.arange(1, len(first) + 1), index=first.index)
    p.interactions["user"] = p.interactions["user"].map(new).astype("int32")


def split_names(p: Planted) -> None:
    p.interactions.loc[5, "split"] = "dev"


def example_without_interaction(p: Planted) -> None:
    i = p.index("ctr")
    met = set(p.mine(i)["item"])
    p.set(i, "item", next(x for x in p.items["item"] if x not in met))


KINDS: list[Callable[[Planted], None]] = [
    target_in_history, target_title_in_history, history_not_earlier, history_at_the_same_time, history_out_of_order,
    history_of_another_user, histories_shared_by_users, history_holds_disliked, history_lacks_items, history_too_long,
    train_history_from_held_out, history_ratings_differ, negative_is_positive, negatives_avoid_held_out,
    duplicate_titles_among_candidates, target_not_among_candidates, candidate_count, candidate_position,
    candidates_as_frozen, duplicate_example_ids, pair_in_two_splits, example_in_another_split, labels_differ,
    warm_flags_from_train, item_counts_from_train, user_counts_from_train, split_order, future_across_users,
    ids_in_tables, empty_titles, empty_reviews, reviews_name_the_rating, sequential_user_ids, split_names,
    example_without_interaction,
]  # fmt: skip
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
            refuse_violations(report)


def test_every_kind_is_planted_once() -> None:
    assert len({plant.__name__ for plant in KINDS}) == len(KINDS) >= 20


def test_clean_data_raises_no_alarm(clean: tuple[Path, Path]) -> None:
    report = audit(*clean)
    assert report.verdict == "pass", report.to_markdown()
    refuse_violations(report)


@pytest.mark.parametrize("seed", [3, 4, 5])
@pytest.mark.parametrize("split", ["temporal", "leave_last_out"])
def test_no_false_stop_on_other_clean_worlds(tmp_path: Path, seed: int, split: str) -> None:
    cfg = SyntheticConfig(
        name="synthetic", users=120, items=80, interactions_per_user=15, topics=4, hidden_dims=2, data_seed=seed
    )
    report = audit(*write_world(tmp_path, make_synthetic(cfg), split))
    assert not report.of_level("stop")
    warned = {line.name for line in report.of_level("warn")}
    # under leave-last-out training knows other users' future, and one test row a user has one class
    assert warned == (set() if split == "temporal" else {"future_across_users", "uauc_users_val", "uauc_users_test"})


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
    assert told["verdict"] == "pass"
    assert {line["name"] for line in told["lines"]} == {line.name for line in report.lines}
    text = (tmp_path / "audit.md").read_text()
    assert text.startswith("# Audit: pass\n")
    assert all(f" {line.name} " in text for line in report.lines)
    assert json.loads((clean[1] / "audit.json").read_text()) == told, "prepare has written the same"
    assert json.loads((clean[1] / "manifest.json").read_text())["audit"]["split_order"]["level"] == "pass"
