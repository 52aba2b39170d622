"""Every method preset from end to end in small, and what its run says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ckf.config.compose import compose
from ckf.config.option_groups import load_groups
from ckf.core.artifact_store import read_json
from tests.integration.conftest import SMALL, run_small

FUSED = {"ckf", "ckf_plus", "collm", "soft_prompt"}
METHODS = [name for name in load_groups().options["method"] if name not in ("cf_only", "bias", "ckf")]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_and_says_how_its_slots_fare(home: Path, method: str) -> None:
    run = run_small(home, f"method={method}", "baselines.text_only=false")
    metrics, train = read_json(run / "metrics.json"), read_json(run / "run.json")["train"]
    assert metrics["test/ctr/n"] > 50
    exp, _ = compose([f"method={method}"])
    assert (run / "fusion.safetensors").exists() == (method in FUSED) == (train["fusion_parameters"] > 0)
    assert ("diagnostics/change_zeroed" in metrics) == exp.fusion.fuses
    assert ("diagnostics/change_swapped" in metrics) == exp.fusion.reads_vectors
    assert (train["adapter_parameters"] > 0) == exp.lora.trains
    assert train["steps"] == (0 if method == "zero_shot" else 8)
    if train["steps"]:
        shares = {key: value for key, value in metrics.items() if key.startswith("diagnostics/grad_share_")}
        assert sum(shares.values()) == pytest.approx(1.0)


def test_zero_shot_is_the_text_only_twin_of_a_run_without_adapters(home: Path) -> None:
    alone = run_small(home, "method=zero_shot")
    fused = run_small(home, "method=soft_prompt")
    assert Path(read_json(fused / "run.json")["artifacts"]["text"]["path"]) == alone


def test_runs_with_other_slots_share_backbone_and_text_only_twin(home: Path, finished: Path) -> None:
    other = run_small(home, "prompts=slots_early")
    first, second = (read_json(run / "run.json")["artifacts"] for run in (finished, other))
    assert first["backbone"]["hash"] == second["backbone"]["hash"]
    assert first["text"]["path"] == second["text"]["path"]


def test_the_control_reads_shuffled_vectors_through_any_map(home: Path) -> None:
    """Same map, same seed, other vectors: other predictions, and they come back from disk."""
    real, control = (
        run_small(home, "method=ckf_plus", "baselines.text_only=false", *extra)
        for extra in ([], ["fusion=random", "fusion.map=meta_attention"])
    )
    assert read_json(control / "fusion.json")["class"] == read_json(real / "fusion.json")["class"]
    assert read_json(control / "fusion.json")["parameters"] == read_json(real / "fusion.json")["parameters"]
    assert read_json(real / "fusion.json")["slots"] == ["user", "item", "pair"]
    scores = [pd.read_parquet(run / "predictions/test.parquet").query("source == 'model'") for run in (real, control)]
    assert (scores[0]["score"].to_numpy() != scores[1]["score"].to_numpy()).any()


def test_binllm_in_both_spellings(home: Path) -> None:
    plain = run_small(home, "method=binllm", "baselines.text_only=false", "fusion.code=plain", "fusion.bits=12")
    assert read_json(plain / "metrics.json")["diagnostics/change_shuffled"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["collm", "ckf_plus"])
def test_two_processes_train_what_one_does_with_parts_at_rest(home: Path, method: str) -> None:
    """DDP waits for every gradient; a part at rest gives zeros, and is not stepped on either rank."""
    chosen = [f"method={method}", "baselines.text_only=false"]
    paths = [f"paths.cache={home / 'cache'}", f"paths.outputs={home / f'ddp-{method}'}"]
    done = subprocess.run(
        [sys.executable, "-m", "ckf", *SMALL, *chosen, *paths, "trainer=ddp_cpu"],
        cwd=home, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    two, one = Path(done.stdout.strip().splitlines()[-1]), run_small(home, *chosen)
    for name in ("adapters/shared/adapter_model.safetensors", "fusion.safetensors"):
        ours, theirs = load_file(one / name), load_file(two / name)
        for key in ours:
            torch.testing.assert_close(theirs[key], ours[key], atol=2e-3, rtol=0)
