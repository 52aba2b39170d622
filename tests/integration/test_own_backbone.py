"""A backbone from a folder, adapters that a run starts from, exports, and the refusal of another backbone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckf.assembly import load_trained
from ckf.config.compose import compose
from ckf.core.artifact_store import read_json
from ckf.core.errors import ArtifactError
from ckf.model.backbone import load_backbone, load_tokenizer
from ckf.model.merge_adapters import export_run
from ckf.pipeline import run as pipeline
from ckf.pipeline.artifacts import content_key
from ckf.runs.folder import read_run, run_folder
from ckf.train.distributed.worker import run_inputs
from tests.integration.conftest import run_small

OWN = [
    "backbone=hf", "backbone.dtype=float32", "fusion=linear", "lora.rank=4", "train.max_steps=2",
    "baselines.text_only=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def own(finished: Path, home: Path) -> tuple[Path, Path]:
    """A run on a copy of the tiny backbone that starts from the finished run's adapter for ctr; and that backbone."""
    tiny = Path(read_json(finished / "run.json")["artifacts"]["backbone"]["path"])
    folder = Path(shutil.copytree(tiny, home / "models" / tiny.name))
    init = f"lora.init=[{{role: ctr, path: {finished / 'adapters/ctr'}}}]"
    small = [f"backbone.path={folder}", "lora.rank=16", "train.learning_rate=1e-9", init]
    return run_small(home, *OWN, *small), folder


def test_a_role_starts_from_an_adapter(own, finished):
    run, _ = own
    state, first = (load_file(folder / "adapters/ctr/adapter_model.safetensors") for folder in (run, finished))
    assert state.keys() == first.keys()
    for key, value in state.items():
        torch.testing.assert_close(value, first[key], atol=1e-6, rtol=0)
    others = load_file(run / "adapters/rating/adapter_model.safetensors")
    assert all(value.abs().max() < 1e-6 for key, value in others.items() if "lora_B" in key)


def test_a_backbone_counts_by_content(own, home, monkeypatch):
    """One folder under four spellings is one run; other weights in the same folder are another."""
    run, folder = own
    names = set()
    monkeypatch.chdir(folder.parent)
    for path in (folder, f"{folder}/", folder.name, f"./{folder.name}"):
        exp = compose([*OWN, f"backbone.path={path}"])[0]
        names.add(run_folder(content_key(exp), "data").name)
    moved = shutil.copytree(folder, folder.parent / "moved")
    names.add(run_folder(content_key(compose([*OWN, f"backbone.path={moved}"])[0]), "data").name)
    assert len(names) == 1
    state = load_file(moved / "model.safetensors")
    save_file({key: value * 1.01 for key, value in state.items()}, moved / "model.safetensors", {"format": "pt"})
    assert run_folder(content_key(compose([*OWN, f"backbone.path={moved}"])[0]), "data").name not in names
    assert read_json(run / "adapters/ctr/backbone.json")["weights"].startswith("sha256:")


def test_an_adapter_of_another_rank_stops_the_run(finished, home):
    tiny = read_json(finished / "run.json")["artifacts"]["backbone"]["path"]
    init = f"lora.init=[{{role: shared, path: {finished / 'adapters/shared'}}}]"
    with pytest.raises(ArtifactError, match=r"lora\.init\[0\]: .*adapters/shared: its rank is 16, that of 'sh"):
        run_small(home, *OWN, f"backbone.path={tiny}", init)


def test_a_trained_run_is_exported(own, tmp_path):
    run, _ = own
    for form in ("peft", "merged"):
        out = export_run(run, "ctr", form, tmp_path / form)
        assert (out / "ckf_export.json").is_file()
    assert read_json(tmp_path / "merged/ckf_export.json")["parity"]["lost_share"] < 0.01


def test_a_run_on_another_backbone_is_refused_at_evaluate(own):
    run, folder = own
    exp, card = read_run(run)
    load_trained(exp, run_inputs(exp, card, run), run)
    kept = (folder / "config.json").read_text()
    try:
        (folder / "config.json").write_text(kept.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
        with pytest.raises(ArtifactError, match=r"is not the one it was trained with: config\.json differs") as caught:
            pipeline.evaluate(run, [])
        assert "\n" not in str(caught.value)
    finally:
        (folder / "config.json").write_text(kept)
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    with pytest.raises(ArtifactError, match=r"its backbone .* is not there; put it back, or into"):
        pipeline.evaluate(run, [])
    moved.rename(folder)


def test_an_instruct_model_trains_and_scores_in_its_template(own, home):
    """The tokenizer's own template, kept with the run, frames the prompts of training and scoring."""
    _, plain = own
    folder = Path(shutil.copytree(plain, home / "models" / "chat"))
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    model = load_backbone(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    run = run_small(home, *OWN, f"backbone.path={folder}", "backbone.chat_template=auto", "tasks=[ctr,topk]")
    exp, card = read_run(run)
    _, collator = load_trained(exp, run_inputs(exp, card, run), run)
    encoder = collator.encoder
    assert encoder.tokenizer.decode(encoder.prefix) == "user: "
    assert encoder.tokenizer.decode(encoder.suffix) == "<|end|>assistant: "
    assert encoder.eos == encoder.tokenizer.convert_tokens_to_ids("<|end|>")
    assert 0 <= read_json(run / "metrics.json")["test/ctr/auc"] <= 1
