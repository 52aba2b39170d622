"""Hyper-parameter search for a CF model with Optuna: ``python -m ckf.tune cf=mf dataset=synthetic trials=20``.

The search space is written as Hydra's sweeps are (``cf.dim=choice(8,16)``, ``cf.learning_rate=
tag(log,interval(0.001,0.03))``). Optuna is driven by its own interface, not by Hydra's sweeper: that one
composes by itself and would skip this project's checks of a config. The search works on copies of the
artifacts that hold no test row; its objective is read from the manifest of each trial's CF artifact.
"""

from __future__ import annotations

import csv
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckf.artifacts import read_json
from ckf.config.compose import compose
from ckf.config.schema import CFConfig
from ckf.errors import CkfError, ConfigError
from ckf.sweep.space import Space, import_optuna, read_space

_EMBEDDING = (
    "cf.dim=choice(8,16,32,64)",
    "cf.learning_rate=tag(log,interval(0.001,0.03))",
    "cf.embedding_l2=tag(log,interval(0.0003,0.3))",
)
_SEQUENCE = (*_EMBEDDING, "cf.dropout=interval(0.0,0.5)")
SPACES: dict[str, tuple[str, ...]] = {
    "mf": (*_EMBEDDING, "cf.loss=choice(bce,bpr,mse)"),
    "lightgcn": (*_EMBEDDING, "cf.layers=choice(1,2,3)", "cf.loss=choice(bce,bpr)"),
    "sasrec": (*_SEQUENCE, "cf.blocks=choice(1,2)"),
    "din": _SEQUENCE,
}
"""What is searched when the command line names no space."""

_OWN = ("trials", "out", "search_seed")


@dataclass(frozen=True)
class Search:
    """A parsed command line: what is fixed, what is searched, how often, and where the log goes."""

    fixed: list[str]
    space: Space
    trials: int = 20
    seed: int = 0
    out: Path = Path("experiments/cf/selection")


def main(argv: Sequence[str] | None = None) -> int:
    """Search, write the log, print the best settings; exit status as ``ckf``'s."""
    try:
        arguments = list(sys.argv[1:] if argv is None else argv)
        search = parse(arguments)
        exp, _ = compose(search.fixed)
        from ckf import stages

        dataset = stages.prepare_dataset(exp)
        examples = stages.prepare_examples(exp, dataset)
        search.out.mkdir(parents=True, exist_ok=True)
        log = search.out / f"{exp.dataset.name}-{exp.cf.name}-optuna.csv"
        with tempfile.TemporaryDirectory(prefix="ckf-tune-") as name:
            copies = without_test(dataset.path, examples.path, Path(name))
            rows = run_search(search, exp.seed, copies, Path(name))
        write_log(log, rows, "python -m ckf.tune " + " ".join(arguments))
        best = next(row for row in rows if row["chosen"])
        print("best: " + " ".join(f"{key}={best[key]}" for key in search.space.suggest))
        print(log)
    except CkfError as error:
        for line in str(error).splitlines():
            print(f"ckf: {line}", file=sys.stderr)
        return error.exit_status
    return 0


def parse(arguments: Sequence[str]) -> Search:
    """Take own arguments, searched keys and fixed overrides apart.

    Raises:
        ConfigError: an argument that cannot be read or searched, or nothing to search.
    """
    own = {key: value for key, _, value in (line.partition("=") for line in arguments) if key in _OWN}
    space = read_space([line for line in arguments if line.split("=")[0] not in _OWN])
    problems = [*space.problems]
    problems += [f"{key}: only keys of cf can be searched" for key in space.suggest if not key.startswith("cf.")]
    if not space.suggest and not problems:
        name = compose(space.fixed)[0].cf.name
        if name not in SPACES:
            raise ConfigError(
                [f"cf={name}: no search space of its own; name one, e.g. cf.pseudo_counts=interval(1,20)"]
            )
        space.suggest |= read_space(SPACES[name]).suggest
    for key in ("trials", "search_seed"):
        if key in own and not (own[key].isdigit() and (key != "trials" or int(own[key]) > 0)):
            problems.append(f"{key}: '{own[key]}' is not a whole number that can be used")
    if problems:
        raise ConfigError(problems)
    values = {"trials": int(own.get("trials", "20")), "seed": int(own.get("search_seed", "0"))}
    return Search(space.fixed, space, **values, out=Path(own.get("out", "experiments/cf/selection")))


def without_test(dataset: Path, examples: Path, folder: Path) -> tuple[Path, Path]:
    """Copy what a CF model is fitted on and scored for, test rows and the planted truth left out."""
    import pyarrow.parquet as pq

    copies = folder / "dataset", folder / "examples"
    for copy in copies:
        copy.mkdir(parents=True)
    keep = [("split", "!=", "test")]
    pq.write_table(pq.read_table(dataset / "interactions.parquet", filters=keep), copies[0] / "interactions.parquet")
    for name in ("users", "items"):
        pq.write_table(pq.read_table(dataset / f"{name}.parquet"), copies[0] / f"{name}.parquet")
    pq.write_table(pq.read_table(examples / "examples.parquet", filters=keep), copies[1] / "examples.parquet")
    return copies


def run_search(search: Search, seed: int, copies: tuple[Path, Path], folder: Path) -> list[dict[str, Any]]:
    """Run the trials; one row each, the best one chosen.

    Raises:
        CkfError: Optuna is not installed, or a model that reports no figures of the val split.
    """
    optuna = import_optuna()
    rows: list[dict[str, Any]] = []

    def objective(trial: Any) -> float:
        values = search.space.values(trial)
        exp, _ = compose([*search.fixed, *(f"{key}={value}" for key, value in values.items())])
        out = folder / f"trial-{trial.number}"
        out.mkdir()
        started = time.perf_counter()
        value, figures = _val_figures(exp.cf, seed, copies, out)
        row = {"trial": trial.number, **values, **figures, "objective": round(value, 6)}
        rows.append({**row, "seconds": round(time.perf_counter() - started, 1), "chosen": ""})
        print(f"[{trial.number + 1}/{search.trials}] {row}", flush=True)
        return value

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=search.seed))
    study.optimize(objective, n_trials=search.trials)
    max(rows, key=lambda row: row["objective"])["chosen"] = "yes"
    return rows


def _val_figures(cfg: CFConfig, seed: int, copies: tuple[Path, Path], out: Path) -> tuple[float, dict[str, float]]:
    """Mean of val AUC and val UAUC as the artifact's manifest says them (AUC alone where no user has both classes)."""
    from ckf.cf.fit import build_cf

    build_cf(cfg, *copies, seed, out)
    card = read_json(out / "manifest.json")
    found = {key: card[key] for key in ("val_auc", "val_uauc") if key in card and math.isfinite(card[key])}
    if "val_auc" not in found:
        raise CkfError(f"cf={cfg.name}: its manifest has no val_auc, so there is nothing to search by")
    return sum(found.values()) / len(found), found


def write_log(path: Path, rows: list[dict[str, Any]], command: str) -> None:
    """Write the log of all trials; its first line is the command that made it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# {command}\n")
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
