"""The text of ``ckf --help``: verbs, options, and the config groups as they are found on disk."""

from __future__ import annotations

import textwrap

from ckf.config.option_groups import Groups

VERBS = {
    "prepare": "source files -> dataset and examples, audited; prints the dataset's folder [export=FORMAT out=DIR]",
    "audit": "what could leak: a line for each kind, pass, warn or stop; prints the examples' folder",
    "inspect": "examples as the model gets them: text, tokens, label mask, slots, what was cut",
    "plan": "what a run will take: parameters by part, tokens, time, memory and disk; trains nothing",
    "cf": "the collaborative-filtering model and the bias baseline; prints its folder",
    "train": "everything up to the trained model, without scoring it",
    "evaluate": "score a trained run again: run=PATH [evaluate.batch_size=... trainer.devices=...]",
    "predict": "score rows of your own: run=PATH input=ROWS.parquet out=FILE.parquet",
    "recommend": "the best items for a user: run=PATH user=ID [top=10]",
    "probe": "what a model reads, and its favourite places in a list: RUN [out=DIR]",
    "report": "a report from run folders: runs=GLOB out=DIR, or a table: table=experiments/NAME[/FILE] [figures=DIR]",
    "diff": "two runs compared, paired by example: RUN_A RUN_B [out=DIR]",
    "export": "a run's adapters for one task, united or merged into weights: run=PATH task=TASK out=DIR",
    "check": "check the config and do nothing; --all: every option and every experiments/*/*.yaml",
    "sweep": "a sweep file: FILE [key=value ...] [--jobs N]",
}
COMPOSED = ("", "prepare", "audit", "inspect", "plan", "cf", "train", "check")
"""Verbs (with the main job) whose arguments are a config."""

SWEPT = ("", "prepare", "cf", "train")
"""Verbs that -m sweeps over."""

ON_RUNS = ("evaluate", "predict", "recommend", "probe", "report", "diff", "export")
"""Verbs that read the config from run folders."""

WITH_WORDS = ("sweep", "diff", "probe")
"""Verbs with arguments that are files or folders."""

_ARGUMENTS = {
    "prepare": "[export=processed_json|jsonl [out=DIR]] [options] [key=value ...]",
    "inspect": "[task=TASK] [n=3] [split=train|val|test] [slots=true|false] [example=ID] [key=value ...]",
    "evaluate": "run=PATH [out=DIR [dataset=OPTION ...]] [evaluate.KEY=VALUE ...]",
    "predict": "run=PATH input=ROWS.parquet out=FILE.parquet [bad_rows=stop|skip]",
    "recommend": "run=PATH user=ID [top=10] [rerank=100] [seen=true|false]",
    "probe": "RUN [out=DIR]",
    "report": "runs=GLOB out=DIR | table=DIR|FILE [outputs=DIR] [figures=DIR]",
    "diff": "RUN_A RUN_B [out=DIR]",
    "export": "run=PATH task=TASK [format=peft|merged] [tolerance=X] out=DIR",
    "check": "[--all] [key=value ...]",
    "sweep": "FILE [key=value ...]",
}

_OPTIONS = """\
options:
  -h, --help        this text
  --version         print the version
  --cfg             print the resolved config and do nothing
  -m, --multirun    a sweep: every combination of key=a,b,c; a process for each (launcher=, search=)
  --jobs N          with -m or sweep: N trials at a time (as launcher.jobs=N; default 1)
  --config-dir DIR  a folder with options of your own (DIR/<group>/<option>.yaml)
"""

_EXAMPLES = """\
examples:
  ckf size=small logger=csv                        # a short run on the built-in data
  ckf method=tallrec 'tasks=[{name: ctr, weight: 2}, {name: topk}]' seed=1
  ckf inspect task=topk n=1 split=test             # one ranking prompt, token by token
  ckf -m fusion=none,linear,meta lora.rank=4,16    # an ablation: six runs
"""


def usage(verb: str, groups: Groups) -> str:
    """Return the help of a verb ("" for the main job)."""
    if verb:
        head = f"usage: ckf {verb} {_ARGUMENTS.get(verb, '[options] [key=value ...]')}\n\n{VERBS[verb]}\n"
        return head if verb not in COMPOSED else f"{head}\n{_groups_text(groups)}\n{_OPTIONS}"
    verbs = "".join(f"  {name:<9} {text}\n" for name, text in VERBS.items())
    return (
        "usage: ckf [verb] [options] [key=value ...]\n\n"
        "Fine-tune a language model into a recommender that also knows collaborative filtering.\n"
        "Without a verb the main job runs: prepare, cf, train, evaluate, report. The last line on\n"
        "stdout is the folder of the result.\n\n"
        f"verbs:\n{verbs}\n{_groups_text(groups)}\n{_OPTIONS}\n{_EXAMPLES}"
    )


def _groups_text(groups: Groups) -> str:
    lines = ["groups (GROUP=OPTION; * is the default, see --cfg for the keys below them):"]
    for group, options in groups.options.items():
        marked = " ".join(f"{option}*" if option == groups.defaults.get(group) else option for option in options)
        lines += textwrap.wrap(marked, 96, initial_indent=f"  {group:<11}", subsequent_indent=" " * 13)
    return "\n".join(lines) + "\n"
