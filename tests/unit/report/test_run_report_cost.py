"""What a run cost: figures that its card holds, and none that nobody measured."""

from __future__ import annotations

from ckf.report.load_runs import cost_metrics

CARD = {
    "stages": {"train": 2.0, "evaluate": 3.0},
    "train": {"steps": 120, "examples_per_step": 64, "examples_per_second": 500.0, "adapter_parameters": 7,
              "fusion_parameters": 2, "peak_memory_gib": 0.5},
}  # fmt: skip


def test_figures_are_the_cards() -> None:
    assert cost_metrics(CARD) == {
        "cost/train_seconds": 2.0,
        "cost/evaluate_seconds": 3.0,
        "cost/examples_per_second": 500.0,
        "cost/trainable_parameters": 9.0,
        "cost/peak_memory_gib": 0.5,
    }


def test_a_run_that_was_continued_at_its_end_has_no_rate() -> None:
    """Its last session took two seconds and no step: 3,840 examples a second would be made up."""
    train = {key: value for key, value in CARD["train"].items() if key != "examples_per_second"}
    assert "cost/examples_per_second" not in cost_metrics({**CARD, "train": train})
