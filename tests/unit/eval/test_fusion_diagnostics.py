"""Fusion diagnostics: a model that reads its slots, one that ignores them, a row that is not fused, no gradient."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ckf.cf.vectors.tables import VectorTables
from ckf.data.example_table import Example
from ckf.eval.fusion_diagnostics import equal_vectors, gradient_shares, slot_diagnostics
from ckf.model.fusion import Fusion
from ckf.prompts.binary_codes import HashedCodes
from ckf.prompts.collate import Collators
from ckf.prompts.encode import PromptEncoder
from tests.conftest import CF_DIM, TASKS, TITLES, make_example, make_model

CPU = torch.device("cpu")


class Table:
    """As much of an `ExampleTable` as health looks at."""

    tasks = TASKS

    def __init__(self, examples: list[Example]) -> None:
        self.examples = examples
        self.example_id = [example.example_id for example in examples]
        self.task_index = np.asarray([TASKS.index(example.task) for example in examples])

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


@pytest.fixture
def table() -> Table:
    return Table([make_example(task, number) for task in TASKS for number in range(12)])


def found(model, collator, table) -> dict[str, float]:
    return slot_diagnostics(model, collator, table, CPU)


class Constant(Fusion):
    """Break-it: the same embedding for every slot, whatever the vectors."""

    def forward(self, slots):
        return torch.ones(len(slots.rows), self.llm_dim)


class LastRowAlone(Fusion):
    """Break-it, as released: only the batch's last row is fused."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__(fusion.cf_dim, fusion.llm_dim, 1)
        self.inner = fusion

    def forward(self, slots):
        return self.inner(slots) * (slots.rows == slots.rows.max())[:, None]


@pytest.mark.parametrize("kind", ["linear", "mlp", "meta", "meta_attention", "random"])
def test_a_model_that_reads_its_slots(backbone_folder, tables, collator, table, kind):
    values = found(make_model(backbone_folder, tables, kind), collator, table)
    for change in ("zeroed", "shuffled", "swapped"):
        assert values[f"diagnostics/change_{change}"] > 1e-3
        assert all(values[f"diagnostics/{task}/change_{change}"] > 1e-4 for task in TASKS)
        by_task = np.mean([values[f"diagnostics/{task}/change_{change}"] for task in TASKS])
        assert values[f"diagnostics/change_{change}"] == pytest.approx(by_task)
    assert values["diagnostics/n"] == 48


def test_eight_users_have_a_rise_of_the_loss_but_no_interval(backbone_folder, tables, collator, table):
    values = found(make_model(backbone_folder, tables, "linear"), collator, table)
    assert {values[f"diagnostics/{task}/users"] for task in TASKS} == {8}
    assert all(f"diagnostics/{task}/loss_rise_shuffled" in values for task in TASKS)
    assert not [key for key in values if key.endswith(("_low", "_high"))]


def test_a_model_that_ignores_its_slots_is_seen(backbone_folder, tables, collator, table):
    model = make_model(backbone_folder, tables, "meta")
    model.fusion = Constant(model.fusion.cf_dim, model.fusion.llm_dim, 1)
    values = found(model, collator, table)
    assert values["diagnostics/change_shuffled"] == values["diagnostics/change_swapped"] == 0.0
    assert values["diagnostics/change_zeroed"] > 1e-4, "they are not read, but they are there"


# --- whether what is read is of use


def planted(seed: int) -> tuple[VectorTables, list[Example]]:
    """ctr examples whose answer is Yes where the signs of user and item agree (as in test_fusion_interaction)."""
    draw = torch.Generator().manual_seed(seed)
    tables = [0.3 * torch.randn(n, CF_DIM, generator=draw) for n in (121, len(TITLES))]
    for table in tables:
        table[:, 0] = torch.tensor([1.0 if row % 2 else -1.0 for row in range(len(table))])
        table[0] = 0.0
    pairs = [(user, item) for user in range(1, 121) for item in range(1, len(TITLES))]
    made = [
        dataclasses.replace(
            make_example("ctr", user), example_id=f"ctr/val/{user}-{item}", user=user, item=item,
            label=float(user % 2 == item % 2),
        )
        for user, item in pairs
    ]  # fmt: skip
    return VectorTables(*tables), made


@pytest.fixture(scope="module")
def pairs_worded(encoder, prompts) -> PromptEncoder:
    ctr = dataclasses.replace(prompts.ctr, slots="Next: it<user><item><pair>. Answer:")
    return PromptEncoder(
        encoder.tokenizer, dataclasses.replace(prompts, ctr=ctr), TITLES, encoder.rating_labels
    )  # fmt: skip


@pytest.mark.parametrize("shuffled", [False, True], ids=["as they are", "shuffled (fusion=random)"])
def test_the_loss_rises_for_a_model_that_learned_from_its_slots_and_not_for_the_control(
    backbone_folder, pairs_worded, shuffled
):
    """Both are trained and both change their answers; only one gets worse by it."""
    tables, examples = planted(0)
    tables = tables.shuffled(1) if shuffled else tables
    collator = Collators(pairs_worded, TASKS, tables)
    model = make_model(backbone_folder, tables, "linear", fusion_options={"slots": ("user", "item", "pair")})
    optimizer = torch.optim.Adam(model.fusion_parameters(), lr=0.01)
    draw, train = np.random.default_rng(0), [x for x in examples if x.user <= 60]
    for _ in range(100):
        batch = collator.training([train[i] for i in draw.integers(0, len(train), 64)], [1 / 64] * 64, slots=True)
        optimizer.zero_grad()
        (-(model(batch, learn_adapters=False) * batch.answer_weights).sum()).backward()
        optimizer.step()
    values = found(model, collator, Table([x for x in examples if x.user > 60]))
    assert values["diagnostics/change_shuffled"] > 0.01
    low, high = (values[f"diagnostics/ctr/loss_rise_shuffled_{end}"] for end in ("low", "high"))
    assert low < values["diagnostics/ctr/loss_rise_shuffled"] < high
    assert low <= 0 if shuffled else low > 0.1
    assert 0 < values["diagnostics/ctr/loss"] < 2


def test_rows_that_are_not_fused_are_seen(backbone_folder, tables, collator, table):
    """Fused for one row of each batch, the answers move by as much less."""
    model = make_model(backbone_folder, tables, "meta")
    whole = found(model, collator, table)["diagnostics/change_zeroed"]
    model.fusion = LastRowAlone(model.fusion)
    assert 0 < found(model, collator, table)["diagnostics/change_zeroed"] < whole / 3


def test_the_model_is_left_as_it_was(backbone_folder, tables, collator, table):
    model = make_model(backbone_folder, tables, "meta")
    fusion, users = model.fusion, collator.tables.users.clone()
    first = found(model, collator, table)
    assert model.fusion is fusion
    assert torch.equal(collator.tables.users, users)
    assert found(model, collator, table) == first


def test_soft_prompts_have_nothing_but_zeros_to_try(backbone_folder, encoder, prompts, tables, table):
    soft = {t: dataclasses.replace(getattr(prompts, t), slots="<soft>" + getattr(prompts, t).text) for t in TASKS}
    own = PromptEncoder(encoder.tokenizer, dataclasses.replace(prompts, **soft), TITLES, encoder.rating_labels)
    values = found(make_model(backbone_folder, tables, "soft_prompt"), Collators(own, TASKS, None), table)
    assert values["diagnostics/change_zeroed"] > 1e-3
    assert "diagnostics/change_shuffled" not in values


def test_codes_are_spoiled_as_text(backbone_folder, encoder, prompts, tables, table):
    texts = {task: getattr(prompts, task) for task in TASKS}
    coded = {task: dataclasses.replace(x, slots=x.text + " {user_code}") for task, x in texts.items()}
    own = PromptEncoder(encoder.tokenizer, dataclasses.replace(prompts, **coded), TITLES, encoder.rating_labels)
    codes = HashedCodes(tables, bits=8, dotted=False, seed=0)
    values = found(make_model(backbone_folder, tables, "none"), Collators(own, TASKS, tables, codes), table)
    for change in ("zeroed", "shuffled", "swapped"):
        assert values[f"diagnostics/change_{change}"] > 1e-4


def test_the_sample_is_limited_and_an_empty_split_has_none(capsys, backbone_folder, tables, collator, table):
    model = make_model(backbone_folder, tables, "linear")
    assert slot_diagnostics(model, collator, table, torch.device("cpu"), 3)["diagnostics/n"] == 12
    assert "fusion diagnostics: 100%" in capsys.readouterr().err
    assert found(model, collator, Table([])) == {}


def test_gradient_shares_are_the_mean_over_logged_steps(tmp_path):
    assert gradient_shares(tmp_path) == {}
    lines = [{"train/grad_share_fusion": v, "train/grad_share_adapters": 1 - v} for v in (0.1, 0.3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in [*lines, {"step": 2, "a": 1.0}]))
    shares = gradient_shares(tmp_path)
    assert shares == pytest.approx({"diagnostics/grad_share_fusion": 0.2, "diagnostics/grad_share_adapters": 0.8})


@pytest.mark.parametrize(
    ("kind", "vectors", "equal"),
    [
        ("users", [[0, 0], [1, 2], [1, 2]], 1.0),
        ("items", [[0, 0], [1, 2], [0, 0], [1, 2]], 1.0),
        ("items", [[0, 0], [0, 0], [0, 0]], 1.0),
        ("users", [[0, 0], [1, 2], [1, 2.5]], 0.0),
    ],
)
def test_equal_vectors_are_found_and_cold_ids_left_out(tmp_path, kind, vectors, equal):
    tables = {name: torch.arange(6.0).view(3, 2) for name in ("users", "items")} | {
        kind: torch.tensor(vectors, dtype=torch.float32)
    }
    for name, table in tables.items():
        save_file({"vectors": table}, tmp_path / f"{name}.safetensors")
    found = equal_vectors(tmp_path)
    other = {"users": "items", "items": "users"}[kind]
    assert found == {f"diagnostics/equal_vectors_{kind}": equal, f"diagnostics/equal_vectors_{other}": 0.0}
