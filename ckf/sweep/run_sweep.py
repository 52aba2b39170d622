"""``ckf -m`` and ``ckf sweep``: check the trials, run them on the launcher, summarise them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig, GridSearchConfig, SlurmLauncherConfig
from ckf.config.sweep_file import Trial, file_trials, load_sweep, provenance_path, sweep_name
from ckf.core.artifact_store import fingerprint
from ckf.core.errors import ConfigError, Problem
from ckf.sweep.expand import check_trials, expand, split_overrides
from ckf.sweep.missing_trials import missing_trials
from ckf.sweep.search import run_search
from ckf.sweep.setup import in_sweep, open_sweep, say
from ckf.sweep.slurm import batch_script
from ckf.sweep.trial_folder import TrialSpec, make_trial_spec


def run_file(path: Path, overrides: Sequence[str], config_dir: Path | None, jobs: int | None = None) -> Path:
    """Run a sweep file's trials; return the folder of their logs.

    A trial whose result is kept next to the file (a row of ``provenance.csv`` has its fingerprint) counts as done,
    unless ``overwrite=true`` is among the overrides.
    """
    own, rest = split_overrides(overrides)
    trials = file_trials(load_sweep(path), rest)
    name = sweep_name(path)
    kept = None if "overwrite=true" in rest else path
    how = _how(trials[0].overrides, own, config_dir, jobs)
    if not isinstance(how.search, GridSearchConfig):
        raise ConfigError(
            [Problem(f"search={how.search.name}", "a sweep file is a grid; search on a command line (ckf -m)")]
        )
    return run_trials("", name, trials, how, config_dir, kept)


def run_multirun(verb: str, overrides: Sequence[str], config_dir: Path | None, jobs: int | None = None) -> Path:
    """Run ``ckf -m``; return the folder of the logs."""
    own, rest = split_overrides(overrides)
    if _asks_for_search(own):
        return run_search(verb, rest, own, config_dir, jobs)
    trials = expand(rest)
    check_trials(trials, config_dir)
    how = _how(trials[0].overrides, own, config_dir, jobs)
    return run_trials(verb, verb or "multirun", trials, how, config_dir)


def _asks_for_search(own: Sequence[str]) -> bool:
    """Whether the sweep is a search; what is swept can then not be read as a grid."""
    return any(line.split("=")[0] == "search" and line != "search=grid" for line in own)


def _how(trial: Sequence[str], own: Sequence[str], config_dir: Path | None, jobs: int | None) -> ExperimentConfig:
    """How the sweep is run: the config of its first trial with launcher and search as asked."""
    asked = [*own, *([f"launcher.jobs={jobs}"] if jobs else [])]
    return compose([*trial, *asked], config_dir)[0]


def run_trials(
    verb: str, name: str, trials: list[Trial], how: ExperimentConfig, config_dir: Path | None, kept: Path | None = None
) -> Path:
    """Check trials, write their folders and run what is missing; return the folder of their logs.

    Results that are kept next to the sweep file ``kept`` count as done.

    Raises:
        CkfError: a trial failed or was not started; the rest has run.
    """
    configs = check_trials(trials, config_dir)
    place = sweep_folder(verb, name, trials, configs[0])
    specs = [
        make_trial_spec(place, number, trial, in_sweep(config, name))
        for number, (trial, config) in enumerate(zip(trials, configs, strict=True), 1)
    ]
    coordinator = open_sweep(place, how, len(specs))
    for spec in specs:
        spec.write(verb)
    missing = missing_trials(specs, kept)
    for spec in specs:
        if kept is not None and spec not in missing:
            coordinator.found(spec, provenance_path(kept))
    if _dry(how, missing):
        return place
    coordinator.run(missing)
    coordinator.summarise(place, {"name": name, "verb": verb})
    return place


def sweep_folder(verb: str, name: str, trials: Sequence[Trial], config: ExperimentConfig) -> Path:
    """Where the trials' folders lie: the same for the same trials."""
    digest = fingerprint(verb, [trial.overrides for trial in trials])[:8]
    return Path(config.paths.outputs) / "sweeps" / f"{name}-{digest}"


def _dry(how: ExperimentConfig, missing: Sequence[TrialSpec]) -> bool:
    """With ``launcher.dry_run`` show what would be submitted for the first missing trial, and do nothing."""
    if not (isinstance(how.launcher, SlurmLauncherConfig) and how.launcher.dry_run):
        return False
    if missing:
        print(batch_script(how.launcher, missing[0]))
    say(f"sweep: nothing was submitted (launcher.dry_run); {len(missing)} trials would be")
    return True
