"""Which trials of a sweep file are missing: those whose results are not kept next to the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ckf.report.result_store import finished_keys
from ckf.runs.folder import result_key
from ckf.sweep.trial_folder import TrialSpec


def missing_trials(specs: Sequence[TrialSpec], sweep_file: Path | None) -> list[TrialSpec]:
    """The trials that have to run, in their order.

    A trial is done when the ``provenance.csv`` next to ``sweep_file`` has a row with its fingerprint. Without
    a file every trial is handed on; its process finds a finished run folder by itself.
    """
    done = finished_keys(sweep_file) if sweep_file is not None else set()
    return [spec for spec in specs if result_key(spec.config) not in done]
