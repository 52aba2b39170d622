"""Every scoring of a run's splits, one line each, so that nobody has to ask how often the test split was looked at."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from ckf.core.errors import ArtifactError

JOURNAL = "evaluations.jsonl"


def record_evaluation(run: Path, verb: str, split: str, examples: int, **details: Any) -> None:
    """Append a scoring of ``examples`` examples of a split to the run's journal, before it begins."""
    line = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "verb": verb, "split": split}
    with (run / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "examples": examples, **details}) + "\n")


def scorings(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's journal; none for a run of an earlier version.

    Raises:
        ArtifactError: a line that is not JSON.
    """
    path = run / JOURNAL
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else [], start=1):
        try:
            found.append(json.loads(line))
        except ValueError:
            raise ArtifactError(f"{path}: line {number} is not JSON") from None
    return found
