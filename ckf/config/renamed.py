"""Keys and options of older versions: they are refused with the new name; nothing is converted."""

from __future__ import annotations

import re

KEYS = {
    "force": "overwrite",
    "train.vector_folds": "cf.out_of_fold",
    "tasks.same_time": "tasks.history_same_timestamp",
    "tasks.mix": "tasks.mixture",
    "dataset.provides": "dataset.supported_tasks",
    "counted": "count_scope",
    "dataset.default_steps": "train.max_steps (a dataset's own value: dataset_defaults/DATASET.yaml)",
    "dataset.default_cold_users_up_to": "split.cold_user_max_interactions "
    "(a dataset's own value: dataset_defaults/DATASET.yaml)",
    "split.cold_users_up_to": "split.cold_user_max_interactions",
    "cf.content": "cf.title_features",
    "cf.item_start": "cf.item_init",
    "cf.pseudo_counts": "cf.shrinkage",
    "fusion.match_scale": "fusion.match_embedding_norm",
    "fusion.item_side": "fusion.item_projection",
    "curriculum.apply": "curriculum.schedule_target",
    "evaluate.candidates": "evaluate.candidate_source (listed, all, file) and evaluate.candidate_file",
    "evaluate.text_tokens": "evaluate.max_new_tokens",
    "evaluate.text_decoding": "evaluate.decoding",
    "evaluate.text_seed": "evaluate.generation_seed",
    "noise.noise_seed": "perturbation.perturbation_seed",
    "noise": "perturbation",
    "baselines.text": "baselines.text_only",
}
"""Old key and what it is called now; ``counted`` is of a filter, whose keys are read by themselves."""

OPTIONS = {
    "prompts=late": "slots_late",
    "prompts=early": "slots_early",
    "prompts=pair": "slots_pair",
    "prompts=codes": "text_codes",
    "prompts=soft": "soft_prompt",
}
"""Old option of a group, and the option's name now."""


def renamed_key(key: str) -> str | None:
    """Return "renamed to NEW" for a key of an older version or one below it, else None."""
    parts = re.sub(r"\[\d+\]", "", key).split(".")
    for length in range(len(parts), 0, -1):
        new = KEYS.get(".".join(parts[:length]))
        if new is not None:
            return f"renamed to {'.'.join([new, *parts[length:]])}"
    return None


def renamed_option(group: str, option: str) -> str | None:
    """Return "renamed to GROUP=NEW" for an option of an older version, else None."""
    new = OPTIONS.get(f"{group}={option}")
    return None if new is None else f"'{option}' is renamed to {group}={new}"
