"""Results of another protocol are stamped and never share a column with strict ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckf.core.errors import ArtifactError
from ckf.report.build import report
from ckf.report.load_runs import load_run, same_protocol
from tests.unit.report.runs import make_run


def test_released_results_are_stamped(tmp_path: Path) -> None:
    for name, overrides in (("strict", ()), ("released", ("tasks.protocol=released",))):
        run = make_run(tmp_path / name, *overrides)
        report([run], run)
        text = (run / "report.md").read_text()
        assert ("Protocol released" in text.partition("## Caveats")[2]) == (name == "released")


@pytest.mark.parametrize(
    "override", ["tasks.protocol=released", "tasks.negatives=popularity", "tasks.history_same_timestamp=keep"]
)
def test_protocols_do_not_share_a_column(tmp_path: Path, override: str) -> None:
    runs = [load_run(make_run(tmp_path / name, *more)) for name, more in (("a", ()), ("b", (override,)))]
    with pytest.raises(ArtifactError, match=f"differ in {override.split('=')[0]}"):
        same_protocol(runs)
