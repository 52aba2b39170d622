"""One table as Markdown, LaTeX and CSV, and what makes a row stand out."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from ckf.report.significance import mark_significance, paired_t, ranking
from ckf.report.table import Interval, Number, Table, csv_table, latex_table, latex_text, markdown_table

TABLE = Table(
    "T",
    ["method", "AUC", "x_1 & 2%"],
    [
        ["a|b, rank=4", Number(0.7, 0.01, 3, 3, marks=frozenset({"best", "better"})), "1"],
        ["text-only", Number(0.5), "–"],
        ["CF", Number(0.6, 0.02, 2, 3, marks=frozenset({"second", "worse"})), "3"],
    ],
    "note: 5%",
)


def test_markdown_lines_up_and_marks():
    lines = markdown_table(TABLE).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert r"| a\|b, rank=4 |" in lines[2]
    assert r"**0.7000 ± 0.0100**\*" in lines[2]
    assert "<ins>0.6000 ± 0.0200 (2 of 3)</ins>†" in lines[4]


def test_latex_is_booktabs_and_escaped():
    text = latex_table(TABLE)
    assert text.splitlines()[0] == "% note: 5%"
    for line in (
        r"\begin{tabular}{lrr}", r"\toprule", r"method & AUC & x\_1 \& 2\% \\", r"\midrule", r"\bottomrule",
        r"a|b, rank=4 & \textbf{0.7000 $\pm$ 0.0100}* & 1 \\", r"text-only & 0.5000 & -- \\", r"\end{tabular}",
        r"CF & \underline{0.6000 $\pm$ 0.0200 (2 of 3)}$^\dagger$ & 3 \\",
    ):  # fmt: skip
        assert line in text.splitlines(), line
    assert latex_text(r"a\b_{c}~^#$") == r"a\textbackslash{}b\_\{c\}\textasciitilde{}\textasciicircum{}\#\$"
    assert latex_text("±–†") == r"$\pm$--$^\dagger$"


def test_csv_has_plain_figures():
    rows = list(csv.DictReader(io.StringIO(csv_table(TABLE))))
    assert list(rows[0]) == ["method", "AUC", "AUC sd", "AUC measured", "AUC vs baseline", "x_1 & 2%"]
    assert list(rows[0].values()) == ["a|b, rank=4", "0.7000", "0.0100", "", "better", "1"]
    assert list(rows[1].values()) == ["text-only", "0.5000", "", "", "", ""]
    assert list(rows[2].values()) == ["CF", "0.6000", "0.0200", "2 of 3", "worse", "3"]


def test_every_format_of_an_empty_table():
    empty = Table("T", ["a", "b"], [])
    assert markdown_table(empty).splitlines()[0] == "| a | b |"
    assert csv_table(empty) == "a,b\n"
    assert r"\midrule" in latex_table(empty)


def test_a_row_that_does_not_fit_its_header_is_refused():
    with pytest.raises(ValueError, match="the row 'x' has 3 cells"):
        Table("T", ["a", "b"], [["x", "1", "2"]])


def test_numbers_stay_numbers_until_they_are_written():
    """No format reads a figure back out of text: digits, gaps and spread come from the numbers."""
    cell = Number.over([1.0, 2.0, None], ".2f", ["best"])
    assert (cell.mean, cell.n, cell.runs, cell.gaps) == (1.5, 2, 3, "2 of 3")
    assert str(cell) == "1.50 ± 0.71 (2 of 3)"
    assert csv_table(Table("T", ["a", "b"], [["0.5 ± 0.1", cell]])).splitlines() == [
        "a,b,b sd,b measured", "0.5 ± 0.1,1.50,0.71,2 of 3",
    ]  # fmt: skip
    assert [str(Interval(low, 0.5)) for low in (0.25, None, math.nan)] == ["[0.2500, 0.5000]", "–", "–"]


def seeds(values: list[float], metric: str = "m") -> dict[int, dict[str, float]]:
    return {seed: {metric: value} for seed, value in enumerate(values)}


def test_paired_t_equals_scipy():
    for number in range(200):
        draw = np.random.default_rng(number)
        a, b = draw.normal(size=5), draw.normal(size=5)
        mean, p = paired_t(seeds(list(a)), seeds(list(b)), "m")
        assert mean == pytest.approx((a - b).mean())
        assert p == pytest.approx(ttest_rel(a, b).pvalue)


def test_pairs_are_of_the_same_seed_and_a_single_one_says_nothing():
    mean, _ = paired_t({0: {"m": 1.0}, 3: {"m": 2.0}, 5: {"m": 9.0}}, {3: {"m": 1.5}, 0: {"m": 0.0}, 7: {"m": 4}}, "m")
    assert mean == pytest.approx(0.75)
    assert math.isnan(paired_t(seeds([1.0]), seeds([0.5]), "m")[1])
    assert math.isnan(paired_t(seeds([1.0, 2.0]), seeds([0.5, 1.5]), "m")[1]), "differences that do not vary"
    assert math.isnan(paired_t(seeds([1.0, 2.0, 3.1]), {0: {"m": 0.5}}, "m")[1]), "one pair"
    mean, p = paired_t(seeds([1.0, 2.0, 3.1]), {0: {"m": 0.5}}, "m", constant=True)
    assert mean == pytest.approx(6.1 / 3 - 0.5), "the bias baseline is the same for every seed"
    assert 0 < p < 1


def test_the_best_baseline_is_the_rival_and_holm_counts_all_cells():
    strong, weak = seeds([0.60, 0.61, 0.59, 0.60]), seeds([0.1, 0.1, 0.1, 0.1])
    lines = [
        ("a", seeds([0.71, 0.70, 0.72, 0.70])),
        ("b", seeds([0.60, 0.62, 0.585, 0.61])),
        ("cf", strong),
        ("t", weak),
    ]
    assert mark_significance(lines, {"a", "b"}, ["m"], "bias") == {(0, 0): "better"}
    assert mark_significance([("a", seeds([0.51, 0.50, 0.50, 0.49])), *lines[2:]], {"a"}, ["m"], "bias") == {
        (0, 0): "worse"
    }
    p = paired_t(lines[0][1], strong, "m")[1]
    many = int(0.05 / p) + 1
    same = [(f"a{i}", lines[0][1]) for i in range(many)]
    assert mark_significance([*same, ("cf", strong)], {name for name, _ in same}, ["m"], "bias") == {}, (
        "one of many tests"
    )
    errors = [(name, {s: {"rmse": m["m"]} for s, m in found.items()}) for name, found in lines]
    assert mark_significance([errors[0], errors[2]], {"a"}, ["rmse"], "bias") == {(0, 0): "worse"}, (
        "an error is better when lower"
    )
    near = [lines[0], ("bias", seeds([0.6]))]
    assert mark_significance(near, {"a"}, ["m"], "bias") == {(0, 0): "better"}
    assert mark_significance(near, {"a"}, ["m"], "another") == {}, "a baseline of which one seed is finished"
    assert mark_significance(lines[:2], {"a", "b"}, ["m"], "bias") == {}, "no baseline, no mark"


def test_ranking_is_by_mean_and_leaves_out_who_has_none():
    lines = [seeds([1.0, 3.0]), seeds([5.0], "other"), seeds([2.5])]
    assert ranking(lines, "m") == [2, 0]
    assert ranking([seeds([1.0], "rmse"), seeds([2.0], "rmse")], "rmse") == [0, 1]
