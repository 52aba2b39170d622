"""``ckf probe``: whether a trained model reads what it is given, and whether it has favourite places in a list.

Everything is measured on the val split; the test split is not looked at.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ckf.assembly import scored_tasks
from ckf.core.errors import DataError
from ckf.data.example_table import Example, ExampleTable
from ckf.eval.evaluate import device_of, subsample
from ckf.eval.fusion_diagnostics import EXAMPLES, gradient_shares, slot_diagnostics
from ckf.eval.predictions import predictions
from ckf.eval.score import answer_log_probabilities
from ckf.inference.predictor import Predictor
from ckf.report.table import MISSING, Table, markdown_table, number
from ckf.runs.evaluation_log import record_evaluation
from ckf.tasks.measure import compute_metrics

LISTS = 200
"""Lists whose target is put into every place in turn."""
_CHANGES = {"zeroed": "slots zeroed", "shuffled": "vectors shuffled", "swapped": "another user's"}


def probe(trained: Predictor) -> tuple[str, dict[str, float]]:
    """Run the probes; return their results as text and as flat metrics.

    Raises:
        DataError: a run without a language model.
    """
    if trained.model is None or trained.collators is None:
        raise DataError(f"{trained.run}: probes look into a language model, and this run has none (backbone=none)")
    exp, tasks = trained.exp, scored_tasks(trained.exp)
    val = ExampleTable(trained.inputs.examples / "examples.parquet", "val", tasks)
    record_evaluation(trained.run, "probe", "val", len(val))
    found = gradient_shares(trained.run)
    if exp.fusion.fuses:
        found.update(
            slot_diagnostics(
                trained.model, trained.collators, val, device_of(exp), exp.evaluate.diagnostics_examples or EXAMPLES
            )
        )
    lists = val.subset(np.flatnonzero([exp.task_set[name].lists for name in val.task]))
    if len(lists):
        found.update(positions(trained, subsample(lists, LISTS)))
    binary = [task for task in tasks if exp.task_set[task].binary]
    tables = [_diagnostics(found, tasks, binary), _positions(found)]
    text = "\n\n".join(f"## {table.title}\n\n{markdown_table(table)}" for table in tables if table.rows)
    return f"# {trained.run.name}\n\n{text or 'Nothing to probe: no fusion, and no lists.'}\n", found


def positions(trained: Predictor, lists: ExampleTable) -> dict[str, float]:
    """HR@1 with the target in each place of the same lists: ``probe/hr@1@position_<place>``, and their ``n``."""
    assert trained.model is not None
    assert trained.collators is not None
    exp, longest = trained.exp, max(len(lists.list_of("candidates", row)) for row in range(len(lists)))
    moved = [_moved(lists[row], place) for row in range(len(lists)) for place in range(longest)]
    table = ExampleTable.of(moved, trained.collators.tasks, "val")
    scores, _ = answer_log_probabilities(
        trained.model, table, trained.collators,
        slots=exp.fusion.fuses, batch_size=exp.evaluate.batch_size, device=device_of(exp),
    )  # fmt: skip
    # the table holds the same example once for each place
    rows = predictions(table, scores, trained.collators, "model")
    rows["example_id"] = np.repeat(np.arange(len(moved)), [len(x.candidates) for x in moved]).astype(str)
    found = compute_metrics(rows, "val", exp.ranking, exp.task_set)
    hits = {key: value for key, value in found.items() if "/hr@1[" in key and "@position_" in key}
    return {f"probe/hr@1@position_{key.rpartition('_')[2]}": value for key, value in hits.items()} | {
        "probe/lists": float(len(lists))
    }


def _moved(example: Example, place: int) -> Example:
    """The same list with its target in another place; the others keep their order."""
    others = np.delete(example.candidates, example.position)
    place = min(place, len(others))
    return dataclasses.replace(example, candidates=np.insert(others, place, example.item), position=place)


def _diagnostics(found: dict[str, float], tasks: list[str], binary: list[str]) -> Table:
    rows = []
    for change, meaning in _CHANGES.items():
        if f"diagnostics/change_{change}" in found:
            keys = [*(f"diagnostics/{task}/change_{change}" for task in tasks), f"diagnostics/change_{change}"]
            keys += [f"diagnostics/{task}/auc_{change}" for task in binary]
            rows.append([meaning, *(number(found.get(key)) for key in keys)])
    if rows:
        aucs = [number(found.get(f"diagnostics/{task}/auc")) for task in binary]
        rows.append(["as it is", *[MISSING] * (len(tasks) + 1), *aucs])
    count = int(found.get("diagnostics/n", 0))
    return Table(
        f"change of the answers, {count} val examples", ["", *tasks, "all", *(f"{task} AUC" for task in binary)], rows
    )


def _positions(found: dict[str, float]) -> Table:
    places = sorted(int(key.rpartition("_")[2]) for key in found if key.startswith("probe/hr@1@position_"))
    values = [number(found[f"probe/hr@1@position_{place}"], ".3f") for place in places]
    rows = [["HR@1", *values]] if places else []
    title = f"HR@1 with the target in each place, {int(found.get('probe/lists', 0))} val lists, the same for each"
    return Table(title, ["", *(str(place + 1) for place in places)], rows)
