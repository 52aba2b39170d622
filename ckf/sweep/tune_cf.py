"""Hyper-parameter search for a CF model with Optuna: ``python -m ckf.sweep.tune_cf cf=mf_plus trials=20``.

The search space is written as Hydra's sweeps are (``cf.dim=choice(8,16)``, ``cf.learning_rate=
tag(log,interval(0.001,0.03))``). Optuna is driven by its own interface, not by Hydra's sweeper: that one
composes by itself and would skip this project's checks of a config. The search works on copies of the
artifacts that hold no test row; its objective is read from the manifests of each trial's CF artifacts, one for
each of ``seeds=1``. With ``store=conf`` the best values become what ``cf=mf_plus`` means on this dataset: they are
written to ``conf/tuned/DATASET_CF.yaml``, their command above them (a ``--config-dir`` of one's own works too).
"""

from __future__ import annotations

import csv
import math
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ckf.config.compose import compose
from ckf.config.option_groups import TUNED
from ckf.config.schema import CFConfig, ExperimentConfig
from ckf.core.artifact_store import read_json, write_json
from ckf.core.errors import CkfError, ConfigError, Problem
from ckf.sweep.search_space import Space, import_optuna, read_space

_EMBEDDING = (
    "cf.dim=choice(8,16,32,64)",
    "cf.learning_rate=tag(log,interval(0.001,0.03))",
    "cf.embedding_l2=tag(log,interval(0.0003,0.3))",
)
_SEQUENCE = (*_EMBEDDING, "cf.dropout=interval(0.0,0.5)")
SPACES: dict[str, tuple[str, ...]] = {
    "mf": _EMBEDDING,
    "mf_plus": (*_EMBEDDING, "cf.loss=choice(bce,bpr,mse)"),
    "lightgcn": (*_EMBEDDING, "cf.layers=choice(1,2,3)"),
    "lightgcn_plus": (*_EMBEDDING, "cf.layers=choice(1,2,3)", "cf.loss=choice(bce,bpr)"),
    **dict.fromkeys(("sasrec", "sasrec_plus"), (*_SEQUENCE, "cf.blocks=choice(1,2)")),
    **dict.fromkeys(("din", "din_plus"), _SEQUENCE),
}
"""What is searched when the command line names no space; the loss of a published model is its own."""

VAL_FIGURES = ("val_auc", "val_uauc", "val_ndcg@10")
"""Figures of a CF artifact's manifest that a search reads; their mean is its objective."""

_MANIFEST = ("feedback", "like_fault", "times")
"""What a CF model reads of a dataset's manifest; the rest counts test rows too."""
_NUMBERS = {"trials": 20, "seeds": 1, "search_seed": 0}
_OWN = (*_NUMBERS, "out", "store")


@dataclass(frozen=True)
class Search:
    """A parsed command line: what is fixed, what is searched, how often, and where the log and the best values go."""

    fixed: list[str]
    space: Space
    trials: int = 20
    seeds: int = 1
    search_seed: int = 0
    out: Path = Path("experiments/cf/selection")
    store: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Search, write the log, print the best settings; exit status as ``ckf``'s."""
    try:
        arguments = list(sys.argv[1:] if argv is None else argv)
        if {"-h", "--help"} & set(arguments):
            print(__doc__)
            return 0
        search = parse(arguments)
        exp, _ = compose(search.fixed)
        from ckf.pipeline.artifacts import prepare_dataset, prepare_examples

        dataset = prepare_dataset(exp)
        examples = prepare_examples(exp, dataset)
        search.out.mkdir(parents=True, exist_ok=True)
        log = search.out / f"{exp.dataset.name}-{exp.cf.name}-optuna.csv"
        with tempfile.TemporaryDirectory(prefix="ckf-tune-") as name:
            copies = without_test(dataset.path, examples.path, Path(name))
            rows = run_search(search, exp.seed, copies, Path(name))
        command = shlex.join(["python", "-m", "ckf.sweep.tune_cf", *arguments])
        write_log(log, rows, command)
        chosen = next(row for row in rows if row["chosen"])
        best = {key: chosen[key] for key in search.space.suggest}
        print("best: " + " ".join(f"{key}={value}" for key, value in best.items()))
        if search.store is not None:
            print(f"stored: {store_best(search.store, exp, best, command)}")
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
    problems += [Problem(key, "only keys of cf can be searched") for key in space.suggest if not key.startswith("cf.")]
    if not space.suggest and not problems:
        name = compose(space.fixed)[0].cf.name
        if name not in SPACES:
            raise ConfigError(
                [Problem(f"cf={name}", "no search space of its own; name one, e.g. cf.shrinkage=interval(1,20)")]
            )
        space.suggest |= read_space(SPACES[name]).suggest
    for key in _NUMBERS:
        if key in own and not (own[key].isdigit() and (key == "search_seed" or int(own[key]) > 0)):
            problems.append(Problem(key, f"'{own[key]}' is not a whole number that can be used"))
    if "store" in own and not Path(own["store"]).is_dir():
        problems.append(Problem("store", f"{own['store']}: no such folder"))
    if problems:
        raise ConfigError(problems)
    numbers = {key: int(own.get(key, default)) for key, default in _NUMBERS.items()}
    out, store = own.get("out", "experiments/cf/selection"), own.get("store")
    return Search(space.fixed, space, **numbers, out=Path(out), store=Path(store) if store else None)


def without_test(dataset: Path, examples: Path, folder: Path) -> tuple[Path, Path]:
    """Copy what a CF model is fitted on and scored for, test rows and the planted truth left out."""
    import pyarrow.parquet as pq

    copies = folder / "dataset", folder / "examples"
    for copy in copies:
        copy.mkdir(parents=True)
    keep = [("split", "!=", "test")]
    pq.write_table(pq.read_table(dataset / "interactions.parquet", filters=keep), copies[0] / "interactions.parquet")
    manifest = read_json(dataset / "manifest.json")
    write_json(copies[0] / "manifest.json", {key: manifest[key] for key in _MANIFEST if key in manifest})
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
        started = time.perf_counter()
        outs = [folder / f"trial-{trial.number}-{draw}" for draw in range(seed, seed + search.seeds)]
        each = [_val_figures(exp.cf, seed + number, copies, out) for number, out in enumerate(outs)]
        figures = {key: round(fmean(found[key] for found in each), 6) for key in each[0]}
        value = fmean(figures.values())
        row = {"trial": trial.number, **values, **figures, "objective": round(value, 6)}
        rows.append({**row, "seconds": round(time.perf_counter() - started, 1), "chosen": ""})
        print(f"[{trial.number + 1}/{search.trials}] {row}", flush=True)
        return value

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=search.search_seed))
    study.optimize(objective, n_trials=search.trials)
    max(rows, key=lambda row: row["objective"])["chosen"] = "yes"
    return rows


def _val_figures(cfg: CFConfig, seed: int, copies: tuple[Path, Path], out: Path) -> dict[str, float]:
    """Val AUC and val UAUC from the artifact's manifest (AUC alone where no user has both classes), or val NDCG."""
    from ckf.cf.fit import build_cf

    out.mkdir()
    build_cf(cfg, *copies, seed, out)
    manifest = read_json(out / "manifest.json")
    found = {key: manifest[key] for key in VAL_FIGURES if key in manifest and math.isfinite(manifest[key])}
    if not found:
        raise CkfError(f"cf={cfg.name}: its manifest has no val figure, so there is nothing to search by")
    return found


def store_best(conf: Path, exp: ExperimentConfig, best: dict[str, Any], command: str) -> Path:
    """Write the best values to the settings file of the dataset and the CF model, which ``config.yaml`` reads."""
    path = conf / TUNED / f"{exp.dataset.name}_{exp.cf.name}.yaml"
    path.parent.mkdir(exist_ok=True)
    lines = [f"# {exp.cf.name} on {exp.dataset.name}, the best of a search by its val figures:", f"#   {command}"]
    lines += [f"{key.removeprefix('cf.')}: {value}" for key, value in best.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_log(path: Path, rows: list[dict[str, Any]], command: str) -> None:
    """Write the log of all trials; its first line is the command that made it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# {command}\n")
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
