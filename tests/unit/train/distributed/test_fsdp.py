"""A backbone cut over two processes: each holds a part of the layers, and finds what the whole one finds."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from transformers import LlamaConfig, LlamaForCausalLM

from ckf.model.lora import AdapterRouting, AdapterSpec, inject_lora
from ckf.model.recommender import Recommender
from ckf.prompts.batch import PromptBatch
from ckf.train.distributed.fsdp import shard_layers

PROCESSES = 2
TARGETS = ("q_proj", "v_proj")


def make() -> Recommender:
    """A small Llama with random adapters (B too: else A gets no gradient)."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    backbone, routing = LlamaForCausalLM(LlamaConfig(vocab_size=32, initializer_range=0.1, **shape)), AdapterRouting()
    backbone.requires_grad_(False)
    specs = [AdapterSpec("shared", 2, 4.0, 0.0, TARGETS), AdapterSpec("ctr", 2, 4.0, 0.0, TARGETS)]
    layers = inject_lora(backbone, specs, ["ctr"], routing)
    for layer in layers.values():
        torch.nn.init.normal_(layer.lora_b, std=0.1)
    return Recommender(backbone, layers, specs, routing, None)


def some_batch() -> PromptBatch:
    """Three rows, one answer token each."""
    ids = torch.arange(3, 21).view(3, 6)
    zero = torch.zeros(3, dtype=torch.long)
    return PromptBatch(
        ids, zero, torch.arange(3), torch.tensor([3, 4, 5]), torch.tensor([7, 8, 9]), torch.ones(3), torch.arange(3)
    )


def learn(model: Recommender) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Log-probabilities and the adapters' gradients."""
    found = model(some_batch())
    found.sum().backward()
    return found.detach(), [p.grad.clone() for p in model.adapter_parameters() if p.grad is not None]


def one_of_two(rank: int, folder: str) -> None:
    """A process: cut the model, and leave what it holds and finds."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    model = make()
    shard_layers(model, torch.device("cpu"), PROCESSES)
    layer = model.backbone.get_decoder().layers[0]
    held = {name: p.to_local().numel() for name, p in layer.named_parameters() if not p.requires_grad}
    torch.save((held, *learn(model)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_each_process_holds_its_part_and_finds_what_the_whole_finds(tmp_path: Path) -> None:
    whole = make()
    size = {n: p.numel() for n, p in whole.backbone.get_decoder().layers[0].named_parameters() if not p.requires_grad}
    log_probability, gradients = learn(whole)
    mp.spawn(one_of_two, (str(tmp_path),), PROCESSES)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    assert {name: sum(held[name] for held, _, _ in parts) for name in size} == size
    assert all(held[name] < size[name] for held, _, _ in parts for name in size)
    for _, found, of_adapters in parts:
        torch.testing.assert_close(found, log_probability)
        assert len(of_adapters) == len(gradients) == len(whole.adapter_parameters())
        for mine, theirs in zip(of_adapters, gradients, strict=True):
            torch.testing.assert_close(mine, theirs)
