"""A file name is unique in ckf/, or it names the same concept in each place."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1] / "ckf"

SAME_CONCEPT = {
    "base.py": "the base class of the models, readers, fusions or tasks beside it",
    "backbone.py": "a backbone, and its options in config/schema",
    "lora.py": "Multi-LoRA, and its options in config/schema",
    "splits.py": "splits, and their options in config/schema",
    "cf.py": "the verb, and the options of CF models in config/schema",
    "sweep.py": "the verb, and the options of sweeps in config/schema",
    "train.py": "the verb",
    "evaluate.py": "the verb, and the evaluation that it calls",
    "export.py": "the verb, and the export that `prepare` calls",
    "predict.py": "the verb, and the scoring that it calls",
    "prepare.py": "the verb, and the preparation that it calls",
    "rebuild.py": "the verb, and the work that it calls",
    "probe.py": "the verb, and the probes that it calls",
    "recommend.py": "the verb, and the recommendation that it calls",
    "report.py": "the verb, and the report of an audit",
    "run.py": "the verb, the stages that it calls, and the run of an audit",
    "perturbation.py": "perturbed inputs: vectors in cf/, titles in prompts/",
    "titles.py": "titles: cleaned in data/, read as features in cf/",
    "fit.py": "fitting: of a CF model, of the language model's adapters and fusion",
    "trainer.py": "the loop over epochs of CF models, and Lightning's trainer",
    "build.py": "made from a config (model/), made from run folders (report/)",
}


def test_a_file_name_is_unique_or_names_the_same_concept() -> None:
    places = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            places[path.name].append(str(path.relative_to(ROOT).parent))
    shared = {name: sorted(where) for name, where in places.items() if len(where) > 1}
    assert set(shared) <= set(SAME_CONCEPT), {name: shared[name] for name in set(shared) - set(SAME_CONCEPT)}
