"""Exports: one plain adapter or merged weights answer as the run does; nothing is left behind on failure."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ckf.config.compose import compose
from ckf.config.schema import LoraTaskConfig
from ckf.core.artifact_store import read_json, write_json
from ckf.core.errors import ArtifactError, ConfigError
from ckf.model import merge_adapters as merge
from ckf.model.backbone import load_tokenizer
from ckf.model.checkpoint_io import save_model
from ckf.model.merge_adapters import concat_adapters, export_run, fixed_rows
from ckf.model.peft_io import read_adapter
from ckf.model.provenance import check_identity, identity
from ckf.runs.folder import create_run, update_metadata
from tests.conftest import LORA, make_example
from tests.unit.model.families import KINDS, attention_of, load, recommender

OVERLAPPING = dataclasses.replace(
    LORA,
    shared=dataclasses.replace(LORA.shared, target_modules=["q_proj", "v_proj"], rank=2),
    tasks=[LoraTaskConfig(name="ctr", rank=3, alpha=1.0)],
)


def make_run(folder: Path, kind: str, backbone: Path, tables: Any, lora: Any = LORA, dtype: str = "float32") -> Path:
    """A run folder as training leaves it, without the training."""
    settings = [f"backbone.path={backbone}", f"backbone.dtype={dtype}", f"backbone.attention={attention_of(kind)}"]
    exp, _ = compose(["backbone=hf", *settings, "fusion=linear"])
    exp = dataclasses.replace(exp, lora=lora)
    create_run(folder, exp, {"backbone": {"path": str(backbone), "hash": f"{backbone}@None"}})
    model = recommender(kind, backbone, tables, lora, "linear", dtype=dtype)
    save_model(model, load_tokenizer(backbone), str(backbone), folder)
    update_metadata(folder, identity=identity(folder, str(backbone)))
    return folder


def answers(model: Any, collator: Any, task: str) -> torch.Tensor:
    """Log-probability of each answer token of some rows of a task, by ids alone."""
    batch = collator.training([make_example(task, n) for n in range(4)], [1.0] * 4, slots=False)
    with torch.no_grad():
        logits = model.eval()(input_ids=batch.input_ids).logits[batch.answer_rows, batch.answer_positions].float()
    return logits.log_softmax(-1).gather(1, batch.answer_targets[:, None])[:, 0]


def run_answers(kind: str, backbone: Path, tables: Any, collator: Any, task: str, lora: Any) -> torch.Tensor:
    model = recommender(kind, backbone, tables, lora, "linear").eval()
    with torch.no_grad():
        return model(collator.training([make_example(task, n) for n in range(4)], [1.0] * 4, slots=False))


@pytest.mark.parametrize("lora", [LORA, OVERLAPPING, dataclasses.replace(OVERLAPPING, rslora=True)])
@pytest.mark.parametrize("task", ["ctr", "topk"])
def test_one_plain_adapter_answers_as_the_run_does(lora, task, checkpoint, tables, collator, tmp_path):
    from peft import PeftModel

    backbone = checkpoint("llama")
    run = make_run(tmp_path / "run", "llama", backbone, tables, lora)
    out = export_run(run, task, "peft", tmp_path / "out")
    stock = PeftModel.from_pretrained(load("llama", backbone), str(out))
    wanted = run_answers("llama", backbone, tables, collator, task, lora)
    torch.testing.assert_close(answers(stock, collator, task), wanted, atol=1e-5, rtol=1e-5)
    assert (answers(load("llama", backbone), collator, task) - wanted).abs().max() > 1e-3
    card = json.loads((out / "adapter_config.json").read_text())
    assert card["rank_pattern"] == card["alpha_pattern"] == {}
    assert read_json(out / "ckf_export.json") == {
        "run": "run", "task": task, "format": "peft", "backbone": str(backbone), "roles": ["shared", task],
        "slots": True,
    }  # fmt: skip
    assert (out / "fusion.safetensors").is_file()


def test_disjoint_roles_keep_their_tensors_and_overlapping_ones_are_stacked(checkpoint, tables, tmp_path):
    plain = make_run(tmp_path / "a", "llama", checkpoint("llama"), tables, LORA)
    shared, ctr = (read_adapter(plain / "adapters" / role) for role in ("shared", "ctr"))
    weights, rank, alpha = concat_adapters([shared, ctr])
    assert (rank, alpha) == (4, 8.0)
    name = "model.layers.0.self_attn.q_proj"
    assert torch.equal(weights[name][1], ctr.weights[name][1])
    over = make_run(tmp_path / "b", "llama", checkpoint("llama"), tables, OVERLAPPING)
    shared, ctr = (read_adapter(over / "adapters" / role) for role in ("shared", "ctr"))
    weights, rank, alpha = concat_adapters([shared, ctr])
    assert (rank, alpha) == (5, 5.0)
    a, b = weights["model.layers.0.self_attn.v_proj"]  # of the shared role alone: padded with zeros
    assert (a.shape, b.shape) == ((5, 32), (16, 5))
    assert a[2:].abs().sum() == b[:, 2:].abs().sum() == 0
    a, b = weights[name]
    (sa, sb, ss), (ta, tb, ts) = shared.weights[name], ctr.weights[name]
    torch.testing.assert_close(b @ a, ss * sb @ sa + ts * tb @ ta)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_answer_as_the_run_does(kind, checkpoint, tables, collator, tmp_path):
    backbone = checkpoint(kind)
    run = make_run(tmp_path / "run", kind, backbone, tables, OVERLAPPING)
    out = export_run(run, "ctr", "merged", tmp_path / "out")
    wanted = run_answers(kind, backbone, tables, collator, "ctr", OVERLAPPING)
    torch.testing.assert_close(answers(load(kind, out), collator, "ctr"), wanted, atol=1e-5, rtol=1e-5)
    assert (answers(load(kind, backbone), collator, "ctr") - wanted).abs().max() > 1e-3
    parity = read_json(out / "ckf_export.json")["parity"]
    assert 0 < parity["lost_share"] < 1e-4
    assert 0 < parity["largest_change_of_log_probability"] < 1e-4
    assert parity["same_first_choice"] == 1.0
    assert load_tokenizer(out).get_vocab() == load_tokenizer(backbone).get_vocab()
    config = json.loads((out / "config.json").read_text())
    assert config.get("use_cache", True) is True
    tied = load(kind, out)
    assert (tied.lm_head.weight is tied.get_input_embeddings().weight) == config["tie_word_embeddings"]


def test_a_bf16_backbone_merges_within_rounding(checkpoint, tables, tmp_path):
    run = make_run(tmp_path / "run", "llama", checkpoint("llama"), tables, LORA, "bfloat16")
    out = export_run(run, "ctr", "merged", tmp_path / "out")
    parity = read_json(out / "ckf_export.json")["parity"]
    assert 1e-3 < parity["lost_share"] < parity["tolerance"] == 0.25
    assert {p.dtype for p in load("llama", out, dtype="bfloat16").parameters()} == {torch.bfloat16}


def test_merging_past_the_tolerance_is_refused_and_leaves_nothing(checkpoint, tables, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", "llama", checkpoint("llama"), tables)
    monkeypatch.setattr(merge, "merge_into", lambda base, adapters: None)  # a merge that forgets the adapters
    with pytest.raises(ArtifactError, match=r"by 1 of what the adapters do, .* tolerance of 0\.01; export") as e:
        export_run(run, "ctr", "merged", tmp_path / "out")
    assert "\n" not in str(e.value)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="tolerance of 0;"):
        export_run(run, "ctr", "merged", tmp_path / "out", tolerance=0.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_the_fixed_rows_are_fixed():
    assert torch.equal(fixed_rows(100), fixed_rows(100))
    assert fixed_rows(100).shape == (8, 32)
    assert int(fixed_rows(100).max()) < 100


def test_what_cannot_be_exported_is_one_line_each(checkpoint, tables, tmp_path):
    run = make_run(tmp_path / "run", "llama", checkpoint("llama"), tables)
    with pytest.raises(ConfigError) as caught:
        export_run(run, "ctrr", "gguf", tmp_path / "out")
    assert str(caught.value).splitlines() == [
        "format: 'gguf' is not allowed; one of peft, merged",
        f"task: 'ctrr' is not a task of {run} (ctr, rating, topk, explain)",
    ]
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(ArtifactError, match=r"full: is not empty; export into a new folder"):
        export_run(run, "ctr", "peft", tmp_path / "full")
    with pytest.raises(ArtifactError, match="not a run folder"):
        export_run(tmp_path / "full", "ctr", "peft", tmp_path / "out")
    shutil.rmtree(run / "adapters")
    with pytest.raises(ArtifactError, match="has no adapters yet"):
        export_run(run, "ctr", "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the backbone and tokenizer a run was trained with


@pytest.fixture
def copied(checkpoint, tables, tmp_path) -> tuple[Path, Path]:
    backbone = Path(shutil.copytree(checkpoint("llama"), tmp_path / "llama"))
    return make_run(tmp_path / "run", "llama", backbone, tables), backbone


def check(run: Path, backbone: Path) -> None:
    check_identity(run, read_json(run / "run.json"), str(backbone))


def test_the_same_backbone_and_tokenizer_pass(copied):
    run, backbone = copied
    check(run, backbone)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(
        read_json(run / "run.json")["identity"]["backbone"]
    )


def other_weights(run: Path, backbone: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(backbone / "model.safetensors")
    state["model.norm.weight"][0] += 1e-3
    save_file(state, backbone / "model.safetensors", metadata={"format": "pt"})


def edited(place: str, old: str, new: str) -> Any:
    def change(run: Path, backbone: Path) -> None:
        root, _, name = place.partition("/")
        path = {"run": run, "backbone": backbone}[root] / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (other_weights, "its backbone {backbone} is not the one it was trained with: model.safetensors differs"),
        (edited("backbone/config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'), "config.json differs ("),
        (edited("backbone/tokenizer.json", "Velmo", "Velma"), "tokenizer.json differs"),
        (edited("run/tokenizer/tokenizer.json", "Velmo", "Velma"), "its tokenizer {run}/tokenizer is not the one"),
        (lambda run, backbone: shutil.rmtree(backbone), "its backbone {backbone} is not there; put it back, or into"),
        (lambda run, backbone: shutil.rmtree(run / "tokenizer"), "{run}/tokenizer: is gone; the same `ckf` command"),
        (lambda run, backbone: (backbone / "model.safetensors").unlink(), "model.safetensors is gone"),
        (lambda run, backbone: (backbone / "more.safetensors").touch(), "more.safetensors is new"),
    ],
)  # fmt: skip
def test_another_backbone_or_tokenizer_is_one_line(copied, change, problem):
    run, backbone = copied
    change(run, backbone)
    with pytest.raises(ArtifactError) as caught:
        check(run, backbone)
    assert problem.format(run=run, backbone=backbone) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_card_without_hashes_is_not_judged(copied):
    run, backbone = copied
    card = read_json(run / "run.json")
    del card["identity"]
    write_json(run / "run.json", card)
    (backbone / "model.safetensors").unlink()
    check(run, backbone)


def test_a_hub_name_is_held_to_its_commit(copied, monkeypatch, tmp_path):
    """The commit of the cached snapshot stands for the weights; what is not cached is fetched when it is loaded."""
    import huggingface_hub

    run, backbone = copied

    def cached(commit: str | None) -> None:
        snapshot = tmp_path / "models--a--b/snapshots" / str(commit)
        snapshot.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(backbone / "config.json", snapshot / "config.json")
        found = str(snapshot / "config.json") if commit else None
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: found)

    cached("abc")
    update_metadata(run, identity=identity(run, "a/b"))
    card = read_json(run / "run.json")
    assert card["identity"]["backbone"]["commit"] == "abc"
    check_identity(run, card, "a/b")
    cached("def")
    with pytest.raises(ArtifactError, match="a/b is not the one it was trained with: its commit is def, was abc"):
        check_identity(run, card, "a/b")
    cached(None)
    check_identity(run, card, "a/b")
