"""Backbones: every supported family scores as it would by itself; what is not supported is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from ckf.config.compose import compose
from ckf.errors import ArtifactError, ConfigError
from ckf.model.attention import attention_masks, branch_allowed
from ckf.model.backbone import FAMILIES, embedding_norm, load_backbone, load_tokenizer, quantization_options
from ckf.model.build import build_fusion, build_recommender
from tests.conftest import CF_DIM, TASKS, make_example
from tests.unit.model.families import KINDS, WINDOWED, load, recommender, save_checkpoint
from tests.unit.model.test_scoring import alone


def test_every_family_has_a_checkpoint():
    assert {family for family, _ in KINDS.values()} == set(FAMILIES)


@pytest.mark.parametrize("kind", KINDS)
def test_branches_equal_each_answer_alone(kind, checkpoint, tables, collator, mixed):
    model = recommender(kind, checkpoint(kind), tables).eval()
    with torch.no_grad():
        batch, counts = collator.scoring(mixed, slots=True)
        assert batch.position_ids.max() > 24, "prompts must outgrow the windows"
        together = torch.zeros(sum(counts)).index_add_(0, batch.answer_branch, model(batch))
        apart = [alone(model, collator, x, label) for x in mixed for label in collator.encoder.labels(x)]
    torch.testing.assert_close(together, torch.stack(apart), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", WINDOWED)
def test_windows_count_and_are_seen_by_the_branches(kind, checkpoint, tables, collator, mixed, monkeypatch):
    model = recommender(kind, checkpoint(kind), tables).eval()
    batch, _ = collator.scoring(mixed, slots=True)
    with torch.no_grad():
        right = model(batch)
        monkeypatch.setattr(model.backbone.config, "sliding_window", 10_000)  # our masks read it, the layers do not
        assert (model(batch) - right).abs().max() > 1e-3


def test_masks_by_kind_of_layer_by_hand():
    branch_of = torch.tensor([[0, 0, 0, 1, 1, 2]])
    positions = torch.tensor([[0, 1, 2, 3, 4, 3]])

    @dataclasses.dataclass
    class Config:
        sliding_window: int | None = 2
        layer_types: tuple[str, ...] | None = ("full_attention", "sliding_attention")

    def seen(mask):
        assert mask.shape == (1, 1, 6, 6)
        return ["".join("1" if x == 0 else "0" for x in row) for row in mask[0, 0].tolist()]

    full = ["100000", "110000", "111000", "111100", "111110", "111001"]
    near = ["100000", "110000", "011000", "001100", "000110", "001001"]  # the last sees position 2, three columns back
    masks = attention_masks(Config(), branch_allowed(branch_of), positions, torch.float32)
    assert {kind: seen(mask) for kind, mask in masks.items()} == {"full_attention": full, "sliding_attention": near}
    assert seen(attention_masks(Config(2, None), branch_allowed(branch_of), positions, torch.float32)) == near
    assert seen(attention_masks(Config(None, None), branch_allowed(branch_of), positions, torch.float32)) == full


@pytest.mark.parametrize("kind", KINDS)
def test_our_forward_equals_the_models_own_on_ids(kind, checkpoint, tables, collator, mixed):
    """Embedding scale, windows, soft-capping of logits: what `Recommender` does by hand is what the model does."""
    model = recommender(kind, checkpoint(kind), tables).eval()
    for layer in model.layers.values():
        torch.nn.init.zeros_(layer.lora_b)
    batch = collator.training(mixed, [1.0] * len(mixed), slots=False)
    with torch.no_grad():
        ours = model(batch)
        logits = load(kind, checkpoint(kind))(input_ids=batch.input_ids).logits[batch.answer_rows, batch.answer_cols]
    theirs = logits.log_softmax(-1).gather(1, batch.answer_targets[:, None])[:, 0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_gemmas_cap_is_not_forgotten(checkpoint, tables, collator, mixed, monkeypatch):
    model = recommender("gemma2", checkpoint("gemma2"), tables).eval()
    batch = collator.training(mixed, [1.0] * len(mixed), slots=False)
    with torch.no_grad():
        capped = model(batch)
        monkeypatch.setattr(model.backbone.config, "final_logit_softcapping", None)
        assert (model(batch) - capped).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["llama", "gemma", "gemma2", "gemma3_text"])
def test_slots_start_at_the_norm_that_words_enter_with(kind, checkpoint, tables, collator, mixed):
    model = load(kind, checkpoint(kind))
    words = model.get_input_embeddings()(torch.arange(model.config.vocab_size)).norm(dim=1).mean()
    assert embedding_norm(model) == pytest.approx(float(words), rel=1e-5)
    scale = math.sqrt(32) if kind.startswith("gemma") else 1.0
    weights = model.get_input_embeddings().weight.norm(dim=1).mean()
    assert embedding_norm(model) == pytest.approx(scale * float(weights), rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_backbone_with_fp32_adapters_and_fusion(kind, checkpoint, tables, collator, mixed):
    batch = collator.training(mixed, [1.0] * len(mixed), slots=True)
    full = recommender(kind, checkpoint(kind), tables)(batch).detach()
    model = recommender(kind, checkpoint(kind), tables, dtype="bfloat16")
    assert {p.dtype for p in model.backbone.parameters() if not p.requires_grad} == {torch.bfloat16}
    half = model(batch)
    half.sum().backward()
    trained = [*model.adapter_parameters(), *model.fusion_parameters()]
    assert {p.dtype for p in trained} == {p.grad.dtype for p in trained} == {half.dtype} == {torch.float32}
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in trained)
    assert half.detach().mean().item() == pytest.approx(full.mean().item(), rel=0.02)


# --- gradient checkpointing


def gradients_of_two_passes(model, collator) -> tuple[list[torch.Tensor], int]:
    """Gradients of a loss over two streams with other rows, tasks and rights; and calls of a layer in backward."""
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    text = collator.training([make_example(task, 1) for task in TASKS], [1.0] * 4, slots=False)
    slots = collator.training([make_example(task, 2) for task in reversed(TASKS[:3])], [1.0] * 3, slots=True)
    loss = -model(text, learn_adapters=True, learn_fusion=False).sum()
    loss = loss - model(slots, learn_adapters=False, learn_fusion=True).sum()
    handle = next(iter(model.layers.values())).base.register_forward_hook(count)
    loss.backward()
    handle.remove()
    return [p.grad for p in [*model.adapter_parameters(), *model.fusion_parameters()]], calls


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_gradient_checkpointing_changes_memory_and_nothing_else(kind, checkpoint, tables, collator):
    from ckf.model.backbone import checkpoint_activations

    plain, calls = gradients_of_two_passes(recommender(kind, checkpoint(kind), tables), collator)
    assert calls == 0
    model = recommender(kind, checkpoint(kind), tables)
    checkpoint_activations(model.backbone, model.routing)
    again, calls = gradients_of_two_passes(model, collator)
    assert calls == 2, "no layer was recomputed"
    assert not model.backbone.get_input_embeddings()(torch.tensor([1])).requires_grad
    for a, b in zip(again, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    with torch.inference_mode():
        model(collator.scoring([make_example("topk")], slots=True)[0])


def test_checkpointing_is_reached_from_the_config(backbone_folder):
    exp, _ = compose(["fusion=none", "train.gradient_checkpointing=true"])
    model = build_recommender(exp, backbone_folder, None, TASKS)
    layers = model.backbone.get_decoder().layers
    assert all(layer.gradient_checkpointing and layer.training for layer in layers)
    assert not any(layer.self_attn.training for layer in layers)


# --- refusals


def test_a_family_that_is_not_supported_is_refused_by_name(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)).save_pretrained(str(tmp_path))
    with pytest.raises(ArtifactError, match=r"family 'gpt2', which is not supported; supported: llama, mistral, .*gem"):
        load_backbone(tmp_path)


def test_attention_that_cannot_cap_is_refused_for_gemma2(checkpoint):
    with pytest.raises(ArtifactError, match=r"backbone\.attention: family 'gemma2' caps .* backbone\.attention=eager"):
        load_backbone(checkpoint("gemma2"))


def test_attention_without_masks_is_refused_before_anything_is_read():
    with pytest.raises(ConfigError) as caught:
        compose(["backbone=hf", "backbone.path=x", "backbone.attention=flash_attention_2"])
    (line,) = caught.value.problems
    assert line.startswith("backbone.attention: 'flash_attention_2' cannot take the mask")
    assert line.endswith("one of sdpa, eager")


def test_a_backbone_that_attends_both_ways_is_refused(backbone_folder, tmp_path):
    folder = save_checkpoint("gemma3_text", load_tokenizer(backbone_folder), tmp_path, use_bidirectional_attention=True)
    with pytest.raises(ArtifactError, match="attends in both directions"):
        load_backbone(folder)


def test_incomplete_weights_are_not_filled_with_noise(backbone_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save_checkpoint("llama", load_tokenizer(backbone_folder), tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"incomplete: 1 tensors are missing, the first is model\.layers\.1\.mlp"):
        load_backbone(folder)


def test_code_beside_the_weights_is_not_run(backbone_folder, tmp_path):
    folder = save_checkpoint("llama", load_tokenizer(backbone_folder), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass OwnConfig: pass\n")
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}})
    )
    with pytest.raises(ArtifactError, match=r"backbone\.path: no model could be loaded") as caught:
        load_backbone(folder)
    assert "\n" not in str(caught.value)
    assert not ran.exists()
    assert not compose(["backbone=hf", "backbone.path=x"])[0].backbone.trust_remote_code


def test_nothing_to_load_is_one_line(tmp_path):
    for load_it in (load_backbone, load_tokenizer):
        with pytest.raises(ArtifactError, match=r"backbone\.path: no \w+ could be loaded") as caught:
            load_it(tmp_path)
        assert "\n" not in str(caught.value)


def test_quantisation_without_its_package_or_a_gpu_is_one_line(monkeypatch):
    import ckf.model.backbone as module

    assert quantization_options("none", "bfloat16") == {}
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArtifactError, match=r"quantization=4bit: the package bitsandbytes is not .*ckf\[quant\]"):
        quantization_options("4bit", "bfloat16")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArtifactError, match="needs a CUDA device"):
        quantization_options("8bit", "bfloat16")
    with pytest.raises(ConfigError, match=r"backbone\.quantization: 8bit needs a GPU, but trainer\.accelerator is cpu"):
        compose(["backbone=qwen3_0_6b", "backbone.quantization=8bit"])
    compose(["backbone=qwen3_0_6b", "backbone.quantization=8bit", "trainer=gpu"])


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
def test_quantisation_asks_transformers_for_it(kind, monkeypatch):
    import ckf.model.backbone as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    options = quantization_options(kind, "bfloat16")
    assert options["device_map"] == {"": 1}
    chosen = options["quantization_config"]
    assert (chosen.load_in_4bit, chosen.load_in_8bit) == (kind == "4bit", kind == "8bit")
    assert kind == "8bit" or chosen.bnb_4bit_compute_dtype == torch.bfloat16


# --- what is trained, and where


def test_only_adapters_and_fusion_are_trainable(model):
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in [*model.adapter_parameters(), *model.fusion_parameters()]}


def test_tied_embeddings_stay_tied_and_frozen(checkpoint, tables):
    for kind in ("llama-tied", "gemma"):
        backbone = recommender(kind, checkpoint(kind), tables).backbone
        assert backbone.get_output_embeddings().weight is backbone.get_input_embeddings().weight
        assert not backbone.get_output_embeddings().weight.requires_grad


def test_logits_are_computed_at_answer_positions_alone(model, collator):
    seen = []
    model.backbone.get_output_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].shape))
    examples = [make_example(task, n) for task in TASKS for n in range(3)]
    batch = collator.training(examples, [1.0] * len(examples), slots=False)
    model(batch)
    assert seen == [(len(batch.answer_targets), 32)]
    assert len(batch.answer_targets) < batch.input_ids.numel() / 5


def test_every_fusion_config_builds_and_an_unknown_one_is_named():
    from ckf.config.schema import FusionConfig
    from ckf.config.store import SCHEMAS

    for name, kind in SCHEMAS["fusion"].items():
        if name == "custom":  # docs/examples has one of its own (tests/docs)
            continue
        built = build_fusion(kind(name=name), CF_DIM, 32, 1.0)
        assert (built is None) == (name in ("none", "binary"))

    @dataclasses.dataclass
    class Other(FusionConfig):
        pass

    with pytest.raises(TypeError, match="Other"):
        build_fusion(Other(name="other"), CF_DIM, 32, 1.0)


def test_a_lora_target_that_is_not_there_is_a_config_error(backbone_folder: Path):
    for target, named in (("qkv_proj", "qkv_proj"), ("lm_head", "lm_head")):
        exp, _ = compose([f"lora.shared.target_modules=[{target}]", "fusion=none"])
        with pytest.raises(ConfigError, match=rf"no projection is called '{named}'; this backbone has down_proj"):
            build_recommender(exp, backbone_folder, None, TASKS)


PRESETS = [
    "qwen3_0_6b", "qwen3_1_7b", "qwen2_5_1_5b", "llama3_2_1b", "llama3_1_8b", "llama2_7b", "vicuna_7b", "mistral_7b",
    "gemma3_1b",
]  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_compose_with_a_hub_name_and_a_word_on_the_licence(preset):
    from ckf.config.groups import conf_dir

    exp, _ = compose([f"backbone={preset}", "trainer=gpu"])
    owner, _, name = exp.backbone.path.partition("/")
    assert owner
    assert name
    assert (exp.backbone.dtype, exp.backbone.trust_remote_code) == ("bfloat16", False)
    comment = (conf_dir() / f"backbone/{preset}.yaml").read_text().splitlines()[0]
    assert any(word in comment for word in ("Apache", "licence", "terms"))


def test_lora_goes_on_a_quantised_layer():
    """As bitsandbytes' layers: a subclass of Linear whose packed weight has neither its shape nor its dtype."""
    from ckf.model.lora import AdapterSpec, MultiLoraLinear, Routing, inject_lora

    class Packed(torch.nn.Linear):
        def __init__(self, plain: torch.nn.Linear) -> None:
            super().__init__(plain.in_features, plain.out_features, bias=False, device="meta")
            self.plain = [plain]
            self.weight = torch.nn.Parameter(torch.zeros(12, 1, dtype=torch.uint8), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.plain[0](x).to(torch.bfloat16)

    plain = torch.nn.Linear(6, 4, bias=False)
    holder = torch.nn.Module()
    holder.q_proj = Packed(plain)
    routing = Routing()
    routing.task_index = torch.tensor([0, 1])
    layers = inject_lora(holder, [AdapterSpec("a", 2, 4.0, 0.0, ("q_proj",))], ["a", "b"], routing)
    layer = layers["q_proj"]
    assert isinstance(layer, MultiLoraLinear)
    torch.nn.init.normal_(layer.lora_b)
    x = torch.randn(2, 3, 6, requires_grad=True)
    out = layer(x)
    assert out.dtype == torch.bfloat16
    with torch.no_grad():
        added = 2.0 * x[0] @ layer.lora_a.T @ layer.lora_b.T
        torch.testing.assert_close(out[0].float(), plain(x[0]) + added, atol=0.05, rtol=0.02)
        torch.testing.assert_close(out[1].float(), plain(x[1]), atol=0.05, rtol=0.02)
    out.float().sum().backward()
    assert layer.lora_a.grad.dtype == torch.float32
    assert layer.lora_a.grad.abs().sum() > 0


@pytest.mark.parametrize(("kind", "tolerance"), [("8bit", 0.05), ("4bit", 0.4)])
def test_a_quantised_backbone_trains_adapters_and_fusion(
    kind, tolerance, checkpoint, tables, collator, mixed, monkeypatch
):
    """bitsandbytes for real, on its slow CPU kernels: everything is as on a GPU but the device."""
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (pip install 'ckf[quant]')")
    import ckf.model.backbone as module

    batch = collator.training(mixed, [1.0] * len(mixed), slots=True)
    plain = recommender("llama", checkpoint("llama"), tables, dtype="bfloat16")(batch).mean().item()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    options = quantization_options(kind, "bfloat16") | {"device_map": {"": "cpu"}}
    monkeypatch.undo()
    monkeypatch.setattr(module, "quantization_options", lambda *_: options)
    model = recommender("llama", checkpoint("llama"), tables, dtype="bfloat16", quantization=kind)
    wanted = bnb.nn.Linear8bitLt if kind == "8bit" else bnb.nn.Linear4bit
    assert all(isinstance(layer.base, wanted) for layer in model.layers.values())
    scores = model(batch)
    scores.sum().backward()
    assert scores.mean().item() == pytest.approx(plain, abs=tolerance)
    trained = [*model.adapter_parameters(), *model.fusion_parameters()]
    assert {p.grad.dtype for p in trained} == {torch.float32}
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in trained)
    assert not any(p.requires_grad for p in model.backbone.parameters() if not any(p is t for t in trained))
