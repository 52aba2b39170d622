"""Scoring by ckf beside the released way (batch of one, an extra forward pass, generation), on the same weights.

    python experiments/speed/eval/bench.py [ROUNDS [EXAMPLES]]

A random Llama of STACK's shape (hidden 256, 6 layers, vocabulary 8,192) with Multi-LoRA and slots on made data.
All ways of a case take turns. Figures are medians over the rounds, collation included, per second of the process's
CPU time with one thread (others may share the machine: clock time would measure them); on a GPU, per second. Beside
them the floating-point operations of an example, whose ratio is what a way could gain by arithmetic alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ckf.cf.vectors.tables import VectorTables
from ckf.config.compose import compose
from ckf.config.schema import SyntheticConfig
from ckf.data.example_table import Example, ExampleTable
from ckf.data.readers.synthetic import make_synthetic
from ckf.eval.scoring_batches import plan_batches, score_batch
from ckf.model.backbone import load_backbone, vocabulary_logits
from ckf.model.build import adapter_specs, build_fusion
from ckf.model.lora import AdapterRouting, inject_lora
from ckf.model.recommender import Recommender
from ckf.model.tiny_backbone import train_tokenizer
from ckf.prompts.collate import Collators
from ckf.prompts.encode import PromptEncoder

HERE = Path(__file__).parent
TASKS = ["ctr", "rating", "topk", "explain"]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CLOCK = time.process_time if DEVICE.type == "cpu" else time.perf_counter
ATTENTION = {  # torch counts it on a GPU alone
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
}
ITEMS, USERS, DIM, BATCH, HISTORY = 2_000, 500, 33, 128, 20


def made_model(folder: Path) -> tuple[Recommender, Collators]:
    """The model and its collator; every weight is random, the work is that of a trained one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    exp = compose(["logger=csv"])[0]
    source = make_synthetic(SyntheticConfig(name="synthetic", users=50, items=ITEMS, interactions_per_user=20))
    titles = ["", *source.items.collect()["title"].to_list()]
    wording = [getattr(exp.prompts, task).text for task in TASKS] * 50
    tokenizer = train_tokenizer([*titles, *wording, *[" Yes No 1 2 3 4 5"] * 50], 8_000)
    shape = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 688}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=8192, **shape, **ids)).save_pretrained(str(folder))
    backbone, routing, adapters = load_backbone(folder), AdapterRouting(), adapter_specs(exp.lora, TASKS)
    layers = inject_lora(backbone, adapters, TASKS, routing)
    tables = VectorTables(torch.randn(USERS + 1, DIM), torch.randn(ITEMS + 1, DIM))
    fusion = build_fusion(exp.fusion, DIM, 256, 1.0, tasks=4)
    encoder = PromptEncoder(tokenizer, exp.prompts, titles, ["1", "2", "3", "4", "5"])
    return Recommender(backbone, layers, adapters, routing, fusion).to(DEVICE).eval(), Collators(encoder, TASKS, tables)


def made_examples(task: str, count: int, each: int = 1) -> list[Example]:
    """Examples of ``count`` users, ``each`` with that many targets and one history."""
    found = []
    for user in range(1, count + 1):
        draw = np.random.default_rng(user)
        items = 1 + draw.permutation(ITEMS)
        history, ratings = items[:HISTORY], draw.integers(1, 6, HISTORY).astype(np.float32)
        for number in range(each):
            item = int(items[HISTORY + number])
            listed = items[HISTORY : HISTORY + 10] if task == "topk" else items[:0]
            rated = ratings if task == "rating" else ratings[:0]
            found.append(
                Example(f"{task}/{user}/{number}", task, 1 + user % USERS, item, 1.0, listed, 0, history, rated, None)
            )
    return found


# --- ways


@torch.inference_mode()
def released(model: Recommender, collator: Collators, examples: list[Example]) -> None:
    """One row at a time: a forward pass with all logits, then generation of as many tokens as the answer has."""
    for example in examples:
        batch, lengths = collator.generation([example], slots=True)
        batch = batch.to(DEVICE)
        tokens = len(collator.encoder.answer_ids(example.task, collator.encoder.true_label(example)))
        model.routing.route(batch.task_index)
        words = model.backbone.get_input_embeddings()(batch.input_ids)
        words = model._fill_slots(words, batch.slots, learn=False)
        mask = torch.ones(words.shape[:2], dtype=torch.long, device=DEVICE)
        model.backbone(inputs_embeds=words, attention_mask=mask, use_cache=False)
        model.backbone.generate(
            inputs_embeds=words, attention_mask=mask, do_sample=False, use_cache=True,
            max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0,
        )  # fmt: skip
        assert int(lengths) == words.shape[1]


def scored(model: Recommender, collator: Collators, examples: list[Example]) -> list[np.ndarray]:
    """What ckf does: planned batches, all answers as branches, shared beginnings read once."""
    table = ExampleTable.of(examples, TASKS, "test")
    found: list[Any] = [None] * len(examples)
    for rows in plan_batches(table, collator, slots=True, size=BATCH):
        answers = score_batch(model, collator, [table[int(i)] for i in rows], slots=True, device=DEVICE).answers
        for row, part in zip(rows, answers, strict=True):
            found[row] = part
    return found


@torch.inference_mode()
def bare(model: Recommender, collator: Collators, examples: list[Example]) -> None:
    """The floor: the same batches, the prompts alone, one position's logits."""
    table = ExampleTable.of(examples, TASKS, "test")
    for rows in plan_batches(table, collator, slots=True, size=BATCH):
        batch, lengths = collator.generation([table[int(i)] for i in rows], slots=True)
        hidden = model.hidden(batch.to(DEVICE))
        vocabulary_logits(model.backbone, hidden[torch.arange(len(rows)), lengths - 1]).log_softmax(1)


def row_by_row(model: Recommender, collator: Collators, examples: list[Example]) -> list[np.ndarray]:
    """Each example alone, all of its answers as branches."""
    return [score_batch(model, collator, [x], slots=True, device=DEVICE).answers[0] for x in examples]


@torch.inference_mode()
def one_by_one(model: Recommender, collator: Collators, examples: list[Example]) -> list[np.ndarray]:
    """Each title alone behind its whole prompt."""
    found = []
    for example in examples:
        scores = []
        for item in example.candidates:
            alone = dataclasses.replace(example, item=int(item))
            batch = collator.training([alone], [1.0], slots=True).to(DEVICE)
            scores.append(float(model(batch).sum()))
        found.append(np.asarray(scores))
    return found


def batched_alone(model: Recommender, collator: Collators, examples: list[Example]) -> list[np.ndarray]:
    """Batches without sharing: every prompt read whole."""
    found: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(examples), BATCH):
            part = examples[start : start + BATCH]
            batch, counts = collator.scoring(part, slots=True)
            totals = torch.zeros(sum(counts), dtype=torch.float64, device=DEVICE)
            totals.index_add_(0, batch.answer_index.to(DEVICE), model(batch.to(DEVICE)).double())
            found += np.split(totals.cpu().numpy(), np.cumsum(counts)[:-1])
    return found


Way = Callable[[Recommender, Collators, list[Example]], Any]


def measure(
    name: str,
    model: Recommender,
    collator: Collators,
    examples: list[Example],
    ways: dict[str, tuple[Way, int]],
    rounds: int,
) -> dict[str, Any]:
    """Seconds per example of each way, in turns; a slow way may take the first few examples alone."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for way, (work, count) in ways.items():
        work(model, collator, examples[: min(count, 2)])
        del way
    for _ in range(rounds):
        for way, (work, count) in ways.items():
            began = CLOCK()
            work(model, collator, examples[:count])
            seconds[way].append((CLOCK() - began) / len(examples[:count]))
    middle = {way: statistics.median(values) for way, values in seconds.items()}
    gflop = {way: operations(work, model, collator, examples[:count]) for way, (work, count) in ways.items()}
    prompts = [len(p.token_ids) for p in collator.prompts(examples[:50], slots=True)]
    row = {
        "case": name,
        "prompt_tokens": round(float(np.mean(prompts)), 1),
        "per_second": {way: round(1 / value, 1) for way, value in middle.items()},
        "ckf_times": {way: round(value / middle["ckf"], 2) for way, value in middle.items() if way != "ckf"},
        "gflop": {way: round(value, 3) for way, value in gflop.items()},
        "gflop_times": {way: round(value / gflop["ckf"], 2) for way, value in gflop.items() if way != "ckf"},
    }
    print(json.dumps(row), flush=True)
    return row


def operations(work: Way, model: Recommender, collator: Collators, examples: list[Example]) -> float:
    """Floating-point operations of an example, in units of 10^9."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        work(model, collator, examples)
    return counter.get_total_flops() / 1e9 / len(examples)


def agree(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Largest difference of any score."""
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


def flat_memory(model: Recommender, collator: Collators) -> dict[str, float]:
    """Growth of the peak memory (MB) when eight times the rows are scored."""
    found = {}
    for count in (64, 512):
        scored(model, collator, made_examples("ctr", count))
        found[str(count)] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return found


def main(rounds: int, count: int) -> None:
    """All cases; writes ``results.json``."""
    if DEVICE.type == "cpu":
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model, collator = made_model(Path(folder))
    few, rows = max(4, count // 4), []
    for task in ("ctr", "rating"):
        ways: dict[str, tuple[Way, int]] = {"ckf": (scored, count), "bare": (bare, count), "released": (released, few)}
        rows.append(measure(task, model, collator, made_examples(task, count), ways, rounds))
    lists = made_examples("topk", count // 2)
    ways = {"ckf": (scored, len(lists)), "released": (released, few), "one by one": (one_by_one, max(2, few // 4))}
    rows.append(measure("topk, 10 candidates", model, collator, lists, ways, rounds))
    shared = made_examples("ctr", 2, each=100)
    ways = {
        "ckf": (scored, 200),
        "batched": (batched_alone, 100),
        "row by row": (row_by_row, 20),
        "released": (released, 10),
    }
    rows.append(measure("ctr, 100 items of one user", model, collator, shared, ways, rounds))
    differences = {
        "shared against row by row": agree(
            scored(model, collator, shared[:100]), row_by_row(model, collator, shared[:100])
        ),
        "branches against one by one": agree(
            scored(model, collator, lists[:4]), one_by_one(model, collator, lists[:4])
        ),
    }
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "device": str(DEVICE)}
    machine |= {"python": platform.python_version(), "torch": torch.__version__}
    result = {
        "machine": machine, "rounds": rounds, "cases": rows, "largest_difference": differences,
        "peak_mb_by_rows": flat_memory(model, collator),
    }  # fmt: skip
    print(json.dumps({k: v for k, v in result.items() if k != "cases"}))
    (HERE / "results.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["3", "32"][len(sys.argv) - 1 :])))
