"""Out-of-fold vectors: whom a training example meets, how folds are turned onto the whole, and what the prompt gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ckf.cf.data import CFData
from ckf.cf.fit import build_cf, fit_model
from ckf.cf.vectors.out_of_fold import FoldVectors, fold_numbers, procrustes_align
from ckf.cf.vectors.per_example_users import ExampleUsers
from ckf.cf.vectors.tables import VectorTables
from ckf.config.schema import MFConfig, SASRecConfig
from ckf.core.errors import ArtifactError
from ckf.core.rng import hash_ids
from ckf.data.readers.synthetic import make_synthetic
from tests.worlds import SMALL, write_world

SHORT = {"dim": 4, "epochs": 3, "batch_size": 128, "folds": 3, "title_features": False}
FOLDS = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_world(tmp_path_factory.mktemp("folds"), make_synthetic(SMALL), tasks=["ctr", "topk"])


@pytest.fixture(scope="module")
def fitted(world, tmp_path_factory: pytest.TempPathFactory) -> VectorTables:
    out = tmp_path_factory.mktemp("mf")
    build_cf(MFConfig("mf", **SHORT), *world, seed=1, out=out, out_of_fold=FOLDS)
    return VectorTables.load(out)


def test_a_training_example_gets_the_vectors_of_a_model_that_never_saw_its_row(world, fitted):
    """Fitted again here without the fold's rows, the model has the same scores as the fold's tables."""
    data = CFData.load(world[0], 0)
    numbers = fold_numbers(data.train.user, data.train.item, FOLDS, seed=1)
    assert sorted(np.unique(numbers).tolist()) == [1, 2, 3]
    without = dataclasses.replace(data, train=data.train.rows(numbers != 2))
    users, items = fit_model(MFConfig("mf", **SHORT), without, 1).vectors()
    held_out = np.flatnonzero(numbers == 2)
    row = data.train.user[held_out], data.train.item[held_out]
    ids = [f"ctr/train/{user}-{item}" for user, item in zip(*row, strict=True)]
    folds = fitted.folds_of(ids)
    assert folds.tolist() == [2] * len(ids)
    mine = [fitted.gather(kind, torch.from_numpy(x), folds) for kind, x in zip(("user", "item"), row, strict=True)]
    scores = (mine[0] * mine[1])[:, :-1].sum(1).numpy()
    np.testing.assert_allclose(scores, (users[row[0]] * items[row[1]])[:, :-1].sum(1), atol=1e-5)
    whole = [fitted.gather(kind, torch.from_numpy(x)) for kind, x in zip(("user", "item"), row, strict=True)]
    assert (mine[0] - whole[0]).abs().max() > 1e-3, "not the model that was fitted on all rows"


def test_every_other_example_gets_those_of_the_whole_model(world, fitted):
    table = pd.read_parquet(world[1] / "examples.parquet")
    test = table[table["split"] != "train"]["example_id"].tolist()
    assert fitted.folds_of(test).tolist() == [0] * len(test)
    train = table[table["split"] == "train"]["example_id"].tolist()
    assert int(fitted.folds_of(train).min()) == 1
    with pytest.raises(ArtifactError, match="no fold for training example ctr/train/9-9999"):
        fitted.folds_of(["ctr/test/9-9999", "ctr/train/9-9999"])


def test_folds_are_turned_onto_the_whole_and_no_score_changes():
    draw = np.random.default_rng(0)
    whole = draw.normal(size=(50, 5)), draw.normal(size=(80, 5))
    turn = np.eye(5)
    turn[:-1, :-1] = np.linalg.qr(draw.normal(size=(4, 4)))[0]
    found = procrustes_align((whole[0] @ turn, whole[1] @ turn), whole)
    np.testing.assert_allclose(whole[0] @ turn @ found, whole[0], atol=1e-5)
    np.testing.assert_allclose(found @ found.T, np.eye(5), atol=1e-5)
    assert found[-1].tolist() == [0, 0, 0, 0, 1], "a bias is a bias in every fit"


def test_a_models_folds_lie_nearer_to_it_after_the_turn(fitted):
    whole = torch.cat([fitted.users[:], fitted.items[:]])[:, :-1]
    for users, items in zip(fitted.folds.users, fitted.folds.items, strict=True):
        turned = torch.cat([users, items])[:, :-1]
        other = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0]
        assert (turned - whole).norm() < (turned @ other - whole).norm()


def test_sequence_models_give_the_user_of_a_training_example_out_of_fold(world, tmp_path):
    plain, folded = tmp_path / "plain", tmp_path / "folded"
    for out, folds in ((plain, 0), (folded, FOLDS)):
        out.mkdir()
        build_cf(SASRecConfig("sasrec", history_items=5, **SHORT), *world, seed=1, out=out, out_of_fold=folds)
    table = pd.read_parquet(world[1] / "examples.parquet", columns=["example_id", "split"])
    ids, in_train = table["example_id"].tolist(), (table["split"] == "train").to_numpy()
    before, since = (ExampleUsers.load(out).of(ids).numpy() for out in (plain, folded))
    assert (before[~in_train] == since[~in_train]).all()
    assert (before[in_train] != since[in_train]).any(axis=1).mean() > 0.9
    assert VectorTables.load(plain).folds is None


def test_the_prompt_gets_its_own_folds_vectors(collator, mixed):
    """User, items, pairs and history of each row from the row's fold; rows of no fold from the whole tables."""
    tables = collator.tables
    ids = [example.example_id for example in mixed]
    folds = torch.arange(len(mixed)) % 3
    keys = hash_ids(ids)
    order = np.argsort(keys, kind="stable")
    users, items = (torch.stack([table + 10, table + 20]) for table in (tables.users, tables.items))
    own = FoldVectors(keys[order], folds[torch.from_numpy(order)], users, items)
    plain = collator.training(mixed, [1.0] * len(mixed), slots=True).slots
    found = collator.with_tables(dataclasses.replace(tables, folds=own))
    slots = found.training(mixed, [1.0] * len(mixed), slots=True).slots
    torch.testing.assert_close(slots.users, plain.users + 10.0 * folds[:, None])
    torch.testing.assert_close(slots.items, plain.items + 10.0 * folds[slots.item_rows][:, None])
    torch.testing.assert_close(slots.pair_items, plain.pair_items + 10.0 * folds[slots.pair_rows][:, None])
    torch.testing.assert_close(slots.history, plain.history + 10.0 * folds[:, None, None])


def test_noise_reaches_the_folds_and_the_control_has_none(fitted):
    noisy = fitted.noisy(1.0, 0)
    assert (noisy.folds.items[0] != fitted.folds.items[0]).any()
    assert fitted.shuffled(0).folds is None


def test_the_text_companion_reads_no_vectors_whatever_the_folds():
    """So runs with and without folds are measured against one text-only training."""
    from ckf.config.compose import compose
    from ckf.config.serialization import fingerprint_payload
    from ckf.pipeline.run import text_only_baseline

    with_folds, without = (compose(["method=ckf_plus", f"cf.out_of_fold={n}"])[0] for n in (5, 0))
    assert fingerprint_payload(with_folds) != fingerprint_payload(without)
    assert fingerprint_payload(text_only_baseline(with_folds)) == fingerprint_payload(text_only_baseline(without))


UNREAD = [
    "cf=sasrec", "cf=lightgcn cf.dim=32", "cf.epochs=3", "perturbation.vectors=0.5 perturbation.perturbation_seed=4",
    "evaluate.candidate_source=all evaluate.rerank_items=20", "evaluate.protocols=[slots]",
    "evaluate.candidate_source=all evaluate.retrieval=slots", "fusion=linear", "fusion=soft_prompt",
    "evaluate.diagnostics_examples=0",
]  # fmt: skip
READ = ["train.max_steps=3", "lora.rank=4", "perturbation.titles=0.5", "tasks=ctr", "evaluate.max_examples=5"]


@pytest.mark.parametrize("option", [*UNREAD, *READ])
def test_the_text_only_baseline_is_named_by_what_it_reads(option):
    from ckf.config.compose import compose
    from ckf.config.serialization import fingerprint_payload
    from ckf.pipeline.run import text_only_baseline

    plain, other = (compose(["method=ckf", *words])[0] for words in ([], option.split()))
    assert fingerprint_payload(plain) != fingerprint_payload(other)
    same = fingerprint_payload(text_only_baseline(plain)) == fingerprint_payload(text_only_baseline(other))
    assert same == (option in UNREAD)


def test_the_folds_name_a_cf_artifact_only_where_a_fusion_reads_them():
    from ckf.config.compose import compose
    from ckf.core.artifact_store import Artifact
    from ckf.pipeline.artifacts import cf_artifact_dir

    data = Artifact(Path("data"), "hash", reused=True)

    def place(*overrides):
        return cf_artifact_dir(compose([*overrides])[0], data, data)

    assert place("fusion=none", "cf.out_of_fold=5") == place("fusion=none") == place("fusion=linear")
    assert place("fusion=linear", "cf.out_of_fold=5") != place("fusion=linear")
