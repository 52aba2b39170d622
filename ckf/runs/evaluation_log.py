"""The evaluation log of a run: a line for each scoring of a split, so that every use of the test split is recorded."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from ckf.core.artifact_store import json_text, read_json_lines

EVALUATION_LOG = "evaluations.jsonl"


def record_evaluation(run: Path, verb: str, split: str, examples: int, **details: Any) -> None:
    """Append a scoring of ``examples`` examples of a split to the run's evaluation log, before it begins."""
    line = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "verb": verb, "split": split}
    with (run / EVALUATION_LOG).open("a", encoding="utf-8") as file:
        file.write(json_text({**line, "examples": examples, **details}) + "\n")


def scorings(run: Path) -> list[dict[str, Any]]:
    """Read a run's evaluation log; empty for a run that was never scored.

    Raises:
        ArtifactError: a line that is not JSON.
    """
    return read_json_lines(run / EVALUATION_LOG)
