"""The example of docs/fusion.md: a class outside the package, chosen by its name, built, trained and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ckf.config.compose import compose
from ckf.config.schema import CustomFusionConfig
from ckf.core.errors import ConfigError
from ckf.model.build import build_fusion
from tests.conftest import CF_DIM, make_model
from tests.integration.conftest import run_small

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_the_example_is_short_and_shown_whole() -> None:
    text = (EXAMPLES / "gated.py").read_text(encoding="utf-8")
    code = [line for line in text.splitlines() if line.strip()]
    assert len(code) <= 20
    assert text.strip() in (EXAMPLES.parent / "fusion.md").read_text(encoding="utf-8")


def test_it_is_chosen_by_its_name_and_takes_its_own_options() -> None:
    exp = compose(["fusion=custom", "fusion.target=gated.GatedFusion", "fusion.options=['sharpness=2.0']"])[0]
    fusion = build_fusion(exp.fusion, CF_DIM, 32, 1.0)
    assert type(fusion).__name__ == "GatedFusion"
    assert fusion.sharpness == 2.0


def test_its_gate_learns(backbone_folder, tables, collator, mixed) -> None:
    options = {"target": "gated.GatedFusion"}
    model = make_model(backbone_folder, tables, fusion="custom", fusion_options=options)
    batch, _ = collator.scoring(mixed, slots=True)
    (-model(batch, learn_adapters=False, learn_fusion=True).sum()).backward()
    assert model.fusion.gate.weight.grad.abs().sum() > 0
    assert torch.isfinite(model.fusion.gate.weight.grad).all()


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("gated.NoFusion", "cannot be imported"),
        ("nowhere.Fusion", "cannot be imported (No module named 'nowhere'); is its folder on PYTHONPATH?"),
        ("pathlib.Path", "is no subclass of ckf.model.fusion.Fusion"),
    ],
)
def test_what_is_no_fusion_is_refused(target: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_fusion(CustomFusionConfig(name="custom", target=target), CF_DIM, 32, 1.0)
    assert problem in str(caught.value)


def test_a_target_without_a_module_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"fusion.target: 'Gated' is not a class with its module"):
        compose(["fusion=custom", "fusion.target=Gated"])


@pytest.mark.slow
def test_the_main_job_runs_with_it(tmp_path: Path) -> None:
    run = run_small(tmp_path, "fusion=custom", "fusion.target=gated.GatedFusion")
    assert (run / "metrics.json").is_file()
    assert "custom" in run.name
