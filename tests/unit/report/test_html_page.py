"""The page of a sweep: whole in one file, every figure traced to its runs, and alive in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ckf.report.sweep_table import render_table
from tests.unit.report.runs import make_run

SWEEP = """
title: Fusion & rank
question: Which?
overrides: [dataset=synthetic, baselines.text_only=false]
grid: {fusion: [linear, meta], lora.rank: [4, 8], seed: [0, 1]}
rows: [fusion, lora.rank]
metrics: [test/ctr/auc, test/rating/rmse, cost/train_seconds, test/ctr/auc@warm_seen]
control: {fusion: linear, lora.rank: 4}
figures: [dots, curve, bars, heatmap, slices, cost]
"""
KEY = {("linear", 4): 0.61, ("linear", 8): 0.60, ("meta", 4): 0.65, ("meta", 8): 0.70}


def predictions(run: Path) -> None:
    rows = [
        {"source": source, "example_id": f"ctr/test/{i}-1", "task": "ctr", "user": i, "item": 1, "label": i % 2,
         "score": (i % 5 + 1) / 7, "answer": "Yes"}
        for source in ("model", "bias") for i in range(20)
    ]  # fmt: skip
    (run / "predictions").mkdir()
    pd.DataFrame(rows).to_parquet(run / "predictions/test.parquet")
    (run / "report.html").write_text("<!doctype html><title>run</title>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered sweep of eight runs, beside their folders."""
    home = tmp_path_factory.mktemp("sweep")
    (home / "ranks").mkdir()
    (home / "ranks/sweep.yaml").write_text(SWEEP)
    for (fusion, rank), auc in KEY.items():
        for seed in (0, 1):
            metrics = {"test/ctr/auc": auc + seed / 100, "text/test/ctr/auc": None, "test/rating/rmse": 2 - auc}
            lines = [f"fusion={fusion}", f"lora.rank={rank}", f"seed={seed}", "baselines.text_only=false"]
            predictions(make_run(home / f"outputs/{fusion}{rank}-{seed}", *lines, metrics=metrics))
    render_table(home / "ranks", home / "outputs", figures=home / "figures")
    return home / "ranks"


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder.parent / "outputs/tables/ranks.html").read_text(encoding="utf-8")


def test_it_needs_no_network(page: str) -> None:
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "@import" not in page
    assert page.count("<svg") == 8, "six of the table, training and reliability"


def test_every_figure_says_where_it_comes_from(page: str) -> None:
    found = re.search(r"const provenance = (.*);", page)
    assert found is not None
    lines: list[dict[str, Any]] = json.loads(found[1])
    meta = next(line for line in lines if line["name"] == "fusion=meta, lora.rank=8")
    run = next(run for run in meta["runs"] if run["seed"] == 1)
    assert (run["run"], run["commit"], run["data"]) == ("meta8-1", "0123", "abc")
    assert run["values"]["ctr/auc"] == "0.7100"
    assert run["command"] == "ckf dataset=synthetic baselines.text_only=false fusion=meta lora.rank=8 seed=1"
    bias = next(line for line in lines if line["name"] == "bias baseline")
    assert bias["runs"][0]["values"]["ctr/auc"] == "0.6600"


def test_runs_link_to_what_lies_in_their_folders(page: str, folder: Path) -> None:
    links = re.findall(r'<a href="([^"#]+)">', page)
    assert len(links) == 16
    assert all((folder.parent / "outputs/tables" / link).is_file() for link in links)
    assert page.count("<details id=") == 8
    assert "ctr/test/" in page


def test_the_figures_of_a_paper_are_pdf(folder: Path) -> None:
    names = {path.name for path in (folder.parent / "figures").iterdir()}
    assert names == {f"ranks-{kind}.pdf" for kind in ("dots", "curve", "bars", "heatmap", "slices", "cost")}
    assert all((folder.parent / "figures" / name).read_bytes().startswith(b"%PDF") for name in names)


def test_the_first_figure_is_shown_in_the_repository(folder: Path) -> None:
    text = (folder / "RESULTS.md").read_text(encoding="utf-8")
    assert re.findall(r"!\[(.*?)\]\((.*?)\)", text) == [("ctr/auc, dots", "RESULTS.svg")]
    figure = (folder / "RESULTS.svg").read_text(encoding="utf-8")
    drawn = ElementTree.fromstring(figure)
    texts = ["".join(node.itertext()) for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"fusion=meta, lora.rank=8", "bias baseline", "0.62"} <= set(texts), (
        "letters are text; ticks keep their digits"
    )
    assert len(figure) < 12_000


# --- in a browser -----------------------------------------------------------------------------

PROBE = """
<script>
addEventListener("load", () => {
  const said = {};
  const names = () => [...document.querySelectorAll("#table tbody tr")].filter(r => !r.hidden).map(r => r.cells[0].textContent);
  const head = document.querySelector("#table thead tr").cells[1];
  head.click(); said.up = names();
  head.click(); said.down = names();
  const box = document.querySelector('fieldset[data-key="fusion"] input[value="meta"]');
  box.click(); said.filtered = names();
  said.runs = [...document.querySelectorAll("#runs tbody tr")].filter(row => !row.hidden).length;
  box.click(); said.back = names().length;
  const cell = [...document.querySelectorAll("#table tbody tr")].find(r => r.cells[0].textContent === "fusion=meta, lora.rank=8").cells[1];
  cell.click(); said.origin = document.getElementById("origin").open && document.getElementById("origin").textContent;
  const out = document.createElement("pre"); out.id = "probe"; out.textContent = JSON.stringify(said); document.body.append(out);
});
</script>
"""  # noqa: E501


def chromium() -> str | None:
    """A Chromium of this machine: $CHROMIUM, or one of its usual names."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


@pytest.mark.slow
def test_it_sorts_filters_and_tells_in_a_browser_without_errors(folder: Path, tmp_path: Path) -> None:
    browser = chromium()
    if browser is None:
        pytest.skip("NO CHROMIUM on this machine (apt-get install chromium, or CHROMIUM=PATH): the page was not opened")
    text = (folder.parent / "outputs/tables/ranks.html").read_text(encoding="utf-8")
    copy = tmp_path / "page.html"
    copy.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run(
        [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", f"file://{copy}"],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not errors, errors
    probe = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)
    assert probe is not None, done.stderr[-1000:]
    said = json.loads(probe[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    rows = [name for name in said["up"] if name.startswith("fusion=")]
    assert rows == [f"fusion={f}, lora.rank={r}" for f, r in sorted(KEY, key=lambda pair: KEY[pair])]
    assert [name for name in said["down"] if name.startswith("fusion=")] == rows[::-1]
    assert said["filtered"]
    assert not any("meta" in name for name in said["filtered"])
    assert any(name == "bias baseline" for name in said["filtered"])
    assert said["runs"] == 4
    assert said["back"] == len(said["up"])
    for part in ("meta8-0", "meta8-1", "0123", "abc", "0.7100", "ckf dataset=synthetic"):
        assert part in said["origin"]
