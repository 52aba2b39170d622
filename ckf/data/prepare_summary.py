"""What was prepared, in a few lines, and where to read more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ckf.core.artifact_store import read_json
from ckf.core.split_names import SPLITS


def summary(dataset: Path, examples: Path) -> Iterator[str]:
    """Lines for the terminal, from the two artifacts' manifests."""
    manifest, made = read_json(dataset / "manifest.json"), read_json(examples / "manifest.json")
    counts = ", ".join(f"{manifest[kind]:,} {kind}" for kind in ("interactions", "users", "items"))
    yield f"dataset: {counts}"
    splits = ", ".join(f"{name} {part['interactions']:,}" for name, part in manifest["splits"].items())
    yield f"split {manifest['split']}: {splits}"
    for task in sorted({name.split("/")[0] for name in made["examples"]}):
        by_split = {split: made["examples"].get(f"{task}/{split}", 0) for split in SPLITS}
        yield f"examples {task}: {', '.join(f'{split} {n:,}' for split, n in by_split.items())}"
    yield f"dataset card: {dataset / 'card.md'}"
    levels = [line["level"] for line in made["audit"].values()]
    worst = ", ".join(name for name, line in made["audit"].items() if line["level"] != "pass")
    counted = ", ".join(f"{levels.count(level)} {level}" for level in ("pass", "warn", "stop"))
    yield f"audit: {counted}{f' ({worst})' if worst else ''}: {examples / 'audit.md'}"
