"""The main job from end to end in small: what a run folder holds, what is reused, what comes back from disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ckf.assembly import load_trained, task_names
from ckf.config.compose import compose
from ckf.core.artifact_store import read_json
from ckf.core.errors import ArtifactError, CkfError
from ckf.data.example_table import ExampleTable
from ckf.eval.score import answer_log_probabilities
from ckf.metrics import auc
from ckf.pipeline import run as pipeline
from ckf.prompts.collate import Collators
from ckf.runs.folder import read_run
from ckf.train.distributed.worker import run_inputs
from tests.integration.conftest import SMALL, run_small


def scores_of(run: Path, change=None) -> np.ndarray:
    """All answer log-probabilities of a run's test split, from what its folder holds."""
    exp, metadata = read_run(run)
    inputs = run_inputs(exp, metadata, run)
    model, collator = load_trained(exp, inputs, run)
    if change is not None and collator.tables is not None:
        collator = Collators(collator.encoder, collator.tasks, change(collator.tables))
    table = ExampleTable(inputs.examples / "examples.parquet", "test", task_names(exp))
    found, _ = answer_log_probabilities(
        model, table, collator, slots=exp.fusion.fuses, batch_size=17, device=torch.device("cpu")
    )
    return np.concatenate(found)


def test_a_run_folder_holds_what_the_contract_says(finished):
    for name in (
        "config.yaml", "metrics.json", "metrics.jsonl", "predictions/test.parquet", "report.md", "report.html",
        "adapters/shared/adapter_model.safetensors", "adapters/ctr/adapter_config.json", "adapters/topk",
        "adapters/rating", "adapters/explain", "fusion.safetensors", "fusion.json", "tokenizer/tokenizer.json",
        "checkpoints/last.ckpt", "run.json",
    ):  # fmt: skip
        assert (finished / name).exists(), name
    metadata = read_json(finished / "run.json")
    assert set(metadata["artifacts"]) == {"dataset", "examples", "cf", "bias", "backbone", "text"}
    assert {"artifacts", "train", "evaluate"} <= set(metadata["stages"])
    assert metadata["versions"]["torch"].startswith("2.")


def test_every_example_is_scored_by_every_source(finished):
    exp, metadata = read_run(finished)
    table = ExampleTable(Path(metadata["artifacts"]["examples"]["path"]) / "examples.parquet", "test", task_names(exp))
    rows = pd.read_parquet(finished / "predictions" / "test.parquet")
    assert set(rows["source"]) == {"model", "text", "cf", "bias"}
    for _, part in rows.groupby("source"):
        assert set(part["example_id"]) == set(table.example_id), "a dropped answer"
        assert part["score"].notna().all()
        topk = part[part["task"] == "topk"]
        assert (topk.groupby("example_id").size() == 5).all()
        assert (topk.groupby("example_id")["label"].sum() == 1).all()


def test_metrics_can_be_computed_again_from_the_predictions(finished):
    metrics = read_json(finished / "metrics.json")
    rows = pd.read_parquet(finished / "predictions" / "test.parquet")
    for source, prefix in (("model", ""), ("text", "text/"), ("cf", "cf/"), ("bias", "bias/")):
        part = rows[(rows["source"] == source) & (rows["task"] == "ctr")]
        assert metrics[f"{prefix}test/ctr/auc"] == pytest.approx(
            auc(part["label"].to_numpy(), part["score"].to_numpy())
        )
        warm = part[part["warm_3"]]
        expected = auc(warm["label"].to_numpy(), warm["score"].to_numpy())
        assert metrics[f"{prefix}test/ctr/auc@warm_3"] == pytest.approx(expected)
    assert metrics["oracle/test/ctr/auc_truth"] > metrics["oracle/test/ctr/auc_counting"]
    assert {"test/ctr/auc_minus_text", "test/ctr/auc_minus_text_low"} <= set(metrics)
    assert {"test/topk/hr@1[c5]", "test/topk/ndcg@10[c5]", "test/rating/rmse", "test/explain/mae"} <= set(metrics)


def test_a_saved_run_scores_the_same_from_disk(finished):
    rows = pd.read_parquet(finished / "predictions" / "test.parquet").query("source == 'model' and task == 'topk'")
    exp, metadata = read_run(finished)
    table = ExampleTable(Path(metadata["artifacts"]["examples"]["path"]) / "examples.parquet", "test", task_names(exp))
    mine = scores_of(finished)
    sizes = [{"ctr": 2, "topk": 5}.get(task, 5) for task in table.task]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for i in np.flatnonzero(table.task == "topk")[:40]:
        kept = rows[rows["example_id"] == table.example_id[i]].sort_values("position")["score"]
        np.testing.assert_allclose(mine[starts[i] : starts[i + 1]], kept.to_numpy(), atol=1e-5)


def test_the_meta_network_comes_back_from_disk(finished, tmp_path):
    """A disturbed fusion is refused, and without its hashes scores otherwise: nothing is made anew at random."""
    from safetensors.torch import load_file, save_file

    from ckf.runs.folder import update_metadata

    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    np.testing.assert_allclose(scores_of(copy), scores_of(finished), atol=1e-6)
    state = load_file(copy / "fusion.safetensors")
    state["meta.1.weight"] = torch.randn_like(state["meta.1.weight"])
    save_file(state, copy / "fusion.safetensors")
    with pytest.raises(
        ArtifactError, match=r"fusion.safetensors: was altered after training \(sha256 \w{12}, was \w{12}"
    ):
        scores_of(copy)
    update_metadata(copy, identity={"weights": {}})
    assert np.abs(scores_of(copy) - scores_of(finished)).max() > 1e-4


def test_shuffled_users_change_a_trained_fused_model_and_not_its_text_only_twin(finished):
    text = Path(read_json(finished / "run.json")["artifacts"]["text"]["path"])
    assert np.abs(scores_of(finished, lambda t: t.shuffled(1)) - scores_of(finished)).max() > 1e-4
    assert (scores_of(text, lambda t: t.shuffled(1)) == scores_of(text)).all()


def test_the_same_command_finds_its_run_and_another_fusion_reuses_the_artifacts(finished, home, capsys):
    before = (finished / "metrics.json").stat().st_mtime_ns
    assert run_small(home) == finished
    assert "finished already" in capsys.readouterr().out
    assert (finished / "metrics.json").stat().st_mtime_ns == before
    other = run_small(home, "fusion=linear")
    said = capsys.readouterr().out
    assert other != finished
    for stage in ("dataset", "examples", "cf", "backbone"):
        assert f"{stage}: reusing" in said
        assert f"{stage}: building" not in said
    assert "finished already" in said, "the text-only baseline is shared"


def test_the_text_only_baseline_answers_as_the_run_of_fusion_none(finished, home):
    """One that was run by itself serves as the baseline; the baseline itself names no CF model."""
    text = Path(read_json(finished / "run.json")["artifacts"]["text"]["path"])
    asked = run_small(home, "fusion=none", "curriculum=text_only")
    answers = [
        pd.read_parquet(run / "predictions" / "test.parquet").query("source == 'model'") for run in (text, asked)
    ]
    np.testing.assert_array_equal(*(rows["score"] for rows in answers))
    other = run_small(home, "fusion=mlp")
    assert Path(read_json(other / "run.json")["artifacts"]["text"]["path"]) == asked


def test_cf_options_share_one_text_only_baseline(home, finished, capsys):
    text = read_json(finished / "run.json")["artifacts"]["text"]["hash"]
    capsys.readouterr()
    for option in ("cf.epochs=2", "cf=sasrec"):
        run = run_small(home, option, *([] if option.startswith("cf.") else ["cf.epochs=1"]))
        assert run != finished
        assert read_json(run / "run.json")["artifacts"]["text"]["hash"] == text
        assert f"finished already: {finished.parent / text}" in capsys.readouterr().out


def test_force_runs_anew_and_gives_the_same_numbers(finished, home):
    before = read_json(finished / "metrics.json")
    assert run_small(home, "overwrite=true") == finished
    assert read_json(finished / "metrics.json") == before


def test_an_unfinished_run_continues_to_the_same_weights(finished, home, tmp_path):
    """Cut after the checkpoint of step 4 (as a kill would): resumed, it ends where the unbroken run did."""
    from safetensors.torch import load_file

    class Killed(BaseException):
        pass

    from ckf.train import fit

    original = fit.Checkpoint.on_train_batch_end

    def kill(self, trainer, *args):
        original(self, trainer, *args)
        if trainer.global_step == 6:
            raise Killed

    alone = [*SMALL, f"paths.cache={home / 'cache'}", "baselines.text_only=false"]
    exp = compose([*alone, f"paths.outputs={tmp_path}"])[0]
    whole = pipeline.train(compose([*alone, f"paths.outputs={tmp_path / 'whole'}"])[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit.Checkpoint, "on_train_batch_end", kill)
        with pytest.raises((Killed, SystemExit, KeyboardInterrupt, CkfError)):
            pipeline.train(exp)
    resumed = pipeline.train(exp)
    for name in (
        "fusion.safetensors",
        "adapters/shared/adapter_model.safetensors",
        "adapters/ctr/adapter_model.safetensors",
    ):
        first, second = load_file(whole / name), load_file(resumed / name)
        assert all(torch.equal(first[key], second[key]) for key in first), name
    steps = [json.loads(line)["step"] for line in (resumed / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "no step is logged twice"


def test_methods_without_a_language_model(home):
    for method in ("cf_only", "bias"):
        run = run_small(home, f"method={method}")
        metrics = read_json(run / "metrics.json")
        other = "cf" if method == "cf_only" else "bias"
        assert metrics["test/ctr/auc"] == metrics[f"{other}/test/ctr/auc"]
        assert not (run / "adapters").exists()


def test_tallrec_and_joint_and_shared_lora(home):
    for overrides in (
        ["method=tallrec"],
        ["curriculum=joint", "baselines.text_only=false"],
        ["lora=shared", "fusion=random"],
    ):
        assert "test/ctr/auc" in read_json(run_small(home, *overrides) / "metrics.json")


def test_one_task_alone_and_a_weighted_list(home):
    alone = read_json(run_small(home, "tasks=ctr", "baselines.text_only=false") / "metrics.json")
    assert "test/ctr/auc" in alone
    assert "test/topk/n" not in alone
    mixed = run_small(home, "tasks=[{name: ctr, weight: 3}, {name: topk, weight: 1}]", "baselines.text_only=false")
    assert read_run(mixed)[0].task_mix[0].weight == 3


def test_a_missing_artifact_is_named(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "adapters" / "ctr")
    with pytest.raises(ArtifactError, match=r"adapters/ctr/\S+: is gone; the same `ckf` command with overwrite=true"):
        scores_of(copy)


def test_evaluate_again_with_another_batch_size_gives_the_same_numbers(finished):
    before = read_json(finished / "metrics.json")
    pipeline.evaluate(finished, ["evaluate.batch_size=7"])
    after = read_json(finished / "metrics.json")
    assert set(before) == set(after)
    looked = [json.loads(line) for line in (finished / "evaluations.jsonl").read_text().splitlines()]
    assert [(line["verb"], line["split"]) for line in looked[:2]] == [("evaluate", "test")] * 2
    for key, value in before.items():
        assert after[key] == pytest.approx(value, abs=1e-5), key


def test_a_local_folder_as_backbone_and_another_split(finished, home):
    folder = read_json(finished / "run.json")["artifacts"]["backbone"]["path"]
    hf = ["backbone=hf", f"backbone.path={folder}"]
    barred = ("backbone.hidden_size",)
    overrides = [x for x in SMALL if not x.startswith(barred)]
    paths = [f"paths.cache={home / 'cache'}", f"paths.outputs={home / 'outputs'}"]
    run = pipeline.run(compose([*overrides, *paths, *hf, "split=leave_last_out", "curriculum.schedule_target=lr"])[0])
    metrics = read_json(run / "metrics.json")
    assert metrics["test/ctr/n"] == 80, "one test interaction a user"
    assert "text/test/topk/mrr[c5]" in metrics
