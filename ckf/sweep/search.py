"""``ckf -m search=optuna``: trials chosen one batch after another by what the batches before have reached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ckf.config.compose import compose
from ckf.config.schema import ExperimentConfig, OptunaSearchConfig, SlurmLauncherConfig
from ckf.config.sweep_file import Trial
from ckf.core.artifact_store import fingerprint, read_json
from ckf.core.errors import ConfigError, Problem
from ckf.runs.folder import METRICS
from ckf.sweep.expand import check_trials
from ckf.sweep.search_space import Space, import_optuna, read_space
from ckf.sweep.setup import in_sweep, open_sweep
from ckf.sweep.trial_folder import ALREADY_DONE, DONE, TrialResult, make_trial_spec


def run_search(
    verb: str, overrides: Sequence[str], own: Sequence[str], config_dir: Path | None, jobs: int | None
) -> Path:
    """Search; return the folder of the logs. The best trial is printed and written to ``sweep.json``.

    Raises:
        ConfigError: nothing to search, or something that cannot be.
        CkfError: a trial failed; the search went on without it.
    """
    space = read_space(overrides)
    how = _how(verb, space, own, config_dir, jobs)
    assert isinstance(how.search, OptunaSearchConfig)
    search, study = how.search, _study(how.search)
    digest = fingerprint(verb, sorted(space.suggest), space.fixed, search)[:8]
    place = Path(how.paths.outputs) / "sweeps" / f"search-{digest}"
    coordinator = open_sweep(place, how, search.trials)
    best: tuple[float, str] | None = None
    number = 0
    while number < search.trials and not coordinator.stopping:
        asked = [study.ask() for _ in range(min(how.launcher.jobs, search.trials - number))]
        trials = [_trial(space, one) for one in asked]
        configs = check_trials(trials, config_dir)
        specs = [
            make_trial_spec(place, number + i, trial, in_sweep(config, "search"))
            for i, (trial, config) in enumerate(zip(trials, configs, strict=True), 1)
        ]
        for spec in specs:
            spec.write(verb)
        for one, spec, result in zip(asked, specs, coordinator.run(specs), strict=True):
            value = _value(result, search.metric)
            if value is None:
                study.tell(one, state=import_optuna().trial.TrialState.FAIL)
                continue
            study.tell(one, value)
            if best is None or (value > best[0]) == (search.direction == "maximize"):
                best = value, spec.trial.name
                print(f"search: best so far {search.metric} {value:.4f} with {spec.trial.name}", flush=True)
        number += len(specs)
    head = {"name": "search", "verb": verb, "metric": search.metric, "best": best[1] if best else None}
    coordinator.summarise(place, {**head, "value": best[0] if best else None})
    return place


def _how(verb: str, space: Space, own: Sequence[str], config_dir: Path | None, jobs: int | None) -> ExperimentConfig:
    """How the search is run, checked before anything starts."""
    how = compose([*space.fixed, *own, *([f"launcher.jobs={jobs}"] if jobs else [])], config_dir)[0]
    problems = list(space.problems)
    if not space.suggest and not problems:
        problems.append(Problem("search=optuna", "nothing is searched; name a key, e.g. 'lora.rank=choice(4,8,16)'"))
    assert isinstance(how.search, OptunaSearchConfig)
    if how.evaluate.splits != ["val"]:
        problems.append(
            Problem(
                "evaluate.splits",
                f"[{', '.join(how.evaluate.splits)}], but a search scores the val split alone; add "
                "'evaluate.splits=[val]', and score the best trial with "
                "`ckf evaluate run=RUN 'evaluate.splits=[test]'`",
            )
        )
    if verb:
        problems.append(Problem("search=optuna", f"ckf {verb} scores nothing to search by; leave the verb out"))
    if isinstance(how.launcher, SlurmLauncherConfig) and how.launcher.dry_run:
        problems.append(Problem("launcher.dry_run", "a search has no trial before the one that came before it has run"))
    if problems:
        raise ConfigError(problems)
    return how


def _study(search: OptunaSearchConfig) -> Any:
    optuna = import_optuna()
    sampler = optuna.samplers.RandomSampler if search.sampler == "random" else optuna.samplers.TPESampler
    return optuna.create_study(direction=search.direction, sampler=sampler(seed=search.search_seed))


def _trial(space: Space, asked: Any) -> Trial:
    point = [f"{key}={value}" for key, value in space.values(asked).items()]
    return Trial(" ".join(point), (*space.fixed, *point))


def _value(result: TrialResult, metric: str) -> float | None:
    """The searched figure of a finished run; None where it failed or has no such figure."""
    if result.state not in (DONE, ALREADY_DONE):
        return None
    found = read_json(Path(result.run) / METRICS).get(metric)
    return None if found is None else float(found)
