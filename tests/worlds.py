"""Made data on disk: a small synthetic dataset, and pickles in CoLLM's form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ckf.cf.vectors.tables import VectorTables
from ckf.config.compose import compose
from ckf.config.schema import DatasetConfig, SplitConfig, SyntheticConfig
from ckf.data.examples import build_examples
from ckf.data.prepare import write_dataset
from ckf.data.readers.base import Source
from ckf.data.readers.synthetic import make_synthetic
from ckf.prompts.collate import Collators
from ckf.prompts.encode import PromptEncoder

SMALL = SyntheticConfig(
    name="synthetic", users=60, items=50, interactions_per_user=20, topics=4, hidden_dims=2, data_seed=1
)
TASKS = ["ctr", "rating", "topk", "explain"]
SHARED_ML1M = Path(__file__).parents[2] / "shared" / "data" / "collm-ml1m"


def small_source() -> Source:
    return make_synthetic(SMALL)


def write_world(folder: Path, source: Source, split: str = "temporal", tasks: list[str] = TASKS) -> tuple[Path, Path]:
    """Dataset and examples of a source, in two folders below ``folder``."""
    dataset, examples = folder / "dataset", folder / "examples"
    dataset.mkdir(parents=True)
    examples.mkdir()
    write_dataset(source, DatasetConfig(name="world"), SplitConfig(name=split), dataset)
    build_examples(dataset, tasks, history_items=5, candidates=5, review_words=100, seed=0, out=examples)
    return dataset, examples


def write_collm_pickles(root: Path, seed: int = 0) -> None:
    """Three tables as CoLLM pickles them: numpy strings as titles, a leading 0 in each history."""
    draw = np.random.default_rng(seed)
    titles = {i: np.str_(f"Movie {'abcdefghijklmnopqrst'[i - 1]} ({1980 + i})") for i in range(1, 21)}
    rows = []
    for user in range(1, 13):
        history: list[int] = [0]
        for step, item in enumerate(draw.permutation(np.arange(1, 21))[:12]):
            label = int(draw.random() < 0.5)
            rows.append(
                {
                    "uid": user,
                    "iid": int(item),
                    "label": label,
                    "timestamp": 1_000_000 + 1000 * step + user,
                    "his": list(history),
                    "his_title": [np.str_("") if i == 0 else titles[i] for i in history],
                    "title": titles[int(item)],
                    "flag": 0.0,
                    "not_cold": 1,
                    "step": step,
                }
            )
            if label:
                history.append(int(item))
    table = pd.DataFrame(rows)
    for name, keep in (
        ("train", table["step"] < 8),
        ("valid", table["step"].isin((8, 9))),
        ("test", table["step"] > 9),
    ):
        table[keep].drop(columns="step").to_pickle(root / f"{name}_ood2.pkl")


def collator_of(world, encoder, wording: str = "slots_late", dim: int = 6) -> Collators:
    """The built-in wording over the small world, with random CF vectors."""
    titles = ["", *pd.read_parquet(world[0] / "items.parquet").sort_values("item")["title"]]
    prompts = compose([f"prompts={wording}"])[0].prompts
    draw = torch.Generator().manual_seed(2)
    users, items = (torch.randn(n, dim, generator=draw) for n in (100, len(titles)))
    return Collators(
        PromptEncoder(encoder.tokenizer, prompts, titles, list("12345")), TASKS, VectorTables(users, items)
    )
