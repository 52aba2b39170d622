"""Sweeps: a grid or a search, all of it checked before the first trial starts, then a process for each trial."""

from ckf.config.sweep_file import VARIANT, Sweep, Trial, file_trials, load_sweep
from ckf.sweep.expand import check_trials, expand
from ckf.sweep.run_sweep import run_file, run_multirun
from ckf.sweep.trial_folder import TrialResult, TrialSpec, read_result, run_trial

__all__ = [
    "VARIANT",
    "Sweep",
    "Trial",
    "TrialResult",
    "TrialSpec",
    "check_trials",
    "expand",
    "file_trials",
    "load_sweep",
    "read_result",
    "run_file",
    "run_multirun",
    "run_trial",
]
