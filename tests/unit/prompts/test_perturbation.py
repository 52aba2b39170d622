"""What is spoiled on purpose: each kind changes what it names and nothing else; names of runs stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from ckf.cf.vectors.per_example_users import ExampleUsers
from ckf.cf.vectors.tables import VectorTables
from ckf.config.compose import compose
from ckf.config.schema import DatasetConfig, SplitConfig
from ckf.core.errors import ConfigError
from ckf.core.rng import hash_ids
from ckf.data.prepare import write_dataset
from ckf.prompts.encode import PromptEncoder
from ckf.prompts.perturbation import perturb_titles, shuffled_order
from tests.conftest import TITLES, make_example
from tests.worlds import small_source


def tables() -> VectorTables:
    draw = torch.Generator().manual_seed(0)
    users, items = torch.randn(400, 4, generator=draw), torch.randn(300, 4, generator=draw) * torch.tensor([1, 2, 3, 4])
    users[0] = items[0] = items[7] = 0.0
    keys = np.sort(hash_ids(["a", "b", "c"]))
    return VectorTables(users, items, ExampleUsers(keys, torch.randn(3, 4, generator=draw)))


def test_noise_in_vectors_is_in_units_of_their_spread_and_spares_cold_ids() -> None:
    plain, noisy = tables(), tables().noisy(0.5, 0)
    for kind in ("users", "items"):
        change = getattr(noisy, kind) - getattr(plain, kind)
        spread = getattr(plain, kind)[getattr(plain, kind).abs().sum(1) > 0].std(dim=0)
        assert torch.allclose(change[1:].std(dim=0) / spread, torch.full((4,), 0.5), atol=0.06)
    assert noisy.items[7].eq(0).all()
    assert noisy.users[0].eq(0).all()
    assert noisy.example_users is not None
    assert not torch.equal(noisy.example_users.vectors, plain.example_users.vectors)  # type: ignore[union-attr]
    assert torch.equal(noisy.items, tables().noisy(0.5, 0).items), "drawn by name"
    assert not torch.equal(noisy.items, tables().noisy(0.5, 1).items)


def test_a_share_of_the_words_of_titles_is_replaced() -> None:
    titles = ["", *(f"alpha{i} beta{i} gamma{i} delta{i}" for i in range(300))]
    noisy = perturb_titles(titles, 0.25, 0)
    assert noisy[0] == ""
    pairs = [
        (a, b) for old, new in zip(titles, noisy, strict=True) for a, b in zip(old.split(), new.split(), strict=True)
    ]
    assert np.mean([a != b for a, b in pairs]) == pytest.approx(0.25, abs=0.04)
    assert {b for _, b in pairs} <= {a for a, _ in pairs}
    assert noisy[:50] == perturb_titles(titles, 0.25, 0)[:50]
    assert perturb_titles(titles, 0.0, 0) == titles


def test_a_shuffled_history_holds_the_same_items_in_another_order(backbone_folder, prompts) -> None:
    from ckf.model.backbone import load_tokenizer

    tokenizer = load_tokenizer(backbone_folder)
    plain, shuffled = (
        PromptEncoder(tokenizer, prompts, TITLES, ["1", "2", "3", "4", "5"], shuffle_seed=seed) for seed in (None, 0)
    )
    examples = [make_example("ctr", number) for number in range(12)]
    texts = [[tokenizer.decode(e.encode(x, slots=False).token_ids) for x in examples] for e in (plain, shuffled)]
    assert texts[0] != texts[1]
    for one, other in zip(*texts, strict=True):
        assert sorted(one) == sorted(other)
    assert sorted(shuffled_order("a", 9, 0)) == list(range(9))


def test_a_share_of_the_training_data_is_nested_and_leaves_val_and_test(tmp_path: Path) -> None:
    found = {}
    for share in (1.0, 0.5, 0.25):
        out = tmp_path / str(share)
        out.mkdir()
        split = SplitConfig(name="temporal", train_fraction=share)
        write_dataset(small_source(), DatasetConfig(name="world"), split, out, dict)
        rows = pl.read_parquet(out / "interactions.parquet").select("user", "item", "split")
        raw = {
            kind: dict(pl.read_parquet(out / f"{kind}s.parquet").select(kind, "raw_id").iter_rows())
            for kind in ("user", "item")
        }
        named = {(raw["user"][u], raw["item"][i], s) for u, i, s in rows.iter_rows()}
        found[share] = {s: {(u, i) for u, i, t in named if t == s} for s in ("train", "val", "test")}
    assert found[0.25]["train"] < found[0.5]["train"] < found[1.0]["train"]
    assert len(found[0.5]["train"]) / len(found[1.0]["train"]) == pytest.approx(0.5, abs=0.06)
    for split in ("val", "test"):
        assert found[0.25][split] == found[1.0][split]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("perturbation.vectors=-1", "perturbation.vectors: must be at least 0, got -1"),
        ("perturbation.titles=1.5", "perturbation.titles: must be a fraction from 0 to 1, got 1.5"),
        ("split.train_fraction=0", "split.train_fraction: must be above 0 and at most 1, got 0"),
    ],
)
def test_a_wrong_share_is_refused(line: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([line])
    assert str(caught.value).splitlines() == [problem]
