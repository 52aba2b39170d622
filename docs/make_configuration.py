"""Write docs/configuration.md from ``conf/`` and the schema: ``python docs/make_configuration.py [--check]``."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import sys
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf

from ckf.config import schema
from ckf.config.compose import compose_with_notes
from ckf.config.option_groups import conf_dir, load_groups
from ckf.config.registry import SCHEMAS
from ckf.config.sweep_file import Sweep

TARGET = Path(__file__).parent / "configuration.md"
HEAD = """# Every option and key

Made from `conf/` and `ckf/config/schema/` by `make docs`; a test compares it with them. `GROUP=OPTION` chooses an
option, `GROUP.KEY=VALUE` sets a key, `ckf --cfg` prints all of them, a wrong one is refused with what is allowed.
The option with * is the default. Values are those of the option's file; `required` has none and must be set.
"""
SECTIONS = ("pretrain", "train", "evaluate", "perturbation", "baselines", "paths")


def page() -> str:
    """The whole page."""
    groups = load_groups()
    text = HEAD
    for group, options in groups.options.items():
        text += f"\n## {group}\n\n| option | what it is |\n|---|---|\n"
        for option in options:
            star = "*" if option == groups.defaults.get(group) else ""
            text += f"| `{group}={option}`{star} | {_comment(group, option)} |\n"
        if group in SCHEMAS:
            text += _classes(group, options)
    text += "\n## Sections without options\n"
    experiment = schema.ExperimentConfig()
    for name in SECTIONS:
        text += _class_text(f"`{name}`", type(getattr(experiment, name)), {}, name)
    text += "\n## The run itself\n\n| key | what it is |\n|---|---|\n"
    for name, what in key_docs(schema.ExperimentConfig).items():
        text += f"| `{name}` | {_cell(what)} |\n"
    text += "\n## Sweep files\n" + _class_text("`sweep.yaml`", Sweep, {}, "")
    return text.rstrip() + "\n"


def _comment(group: str, option: str) -> str:
    """The comment that opens an option's file, as one line."""
    lines = (conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    found = []
    for line in lines[1:] if lines[0].startswith("# @package") else lines:
        if not line.startswith("#"):
            break
        found.append(line.lstrip("# "))
    return " ".join(found).replace("|", "\\|")


def _classes(group: str, options: list[str]) -> str:
    """The keys of a group: a table for each dataclass, with the values of its options."""
    by_class: dict[type, list[str]] = {}
    for option in options:
        by_class.setdefault(SCHEMAS[group][option], []).append(option)
    text, described = "", set[type]()
    for cls, mine in by_class.items():
        values = {option: _values(group, option) for option in mine}
        text += _class_text(", ".join(f"`{group}={option}`" for option in mine), cls, values, group, described)
    return text


def _values(group: str, option: str) -> dict[str, Any]:
    """An option's own values, composed as a run composes them."""
    # on a dataset without tuned values: those of conf/tuned/ are no option's own
    dataset = ["dataset=csv"] if group == "cf" else []
    node = compose_with_notes([f"{group}={option}", *dataset], fill_missing=True, rules=False).cfg[group]
    raw = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{option}.yaml"))
    assert isinstance(raw, dict)
    required = {key for key, value in raw.items() if value == MISSING}
    return {str(key): MISSING if key in required else node[key] for key in node}


def _class_text(
    title: str, cls: type, values: dict[str, dict[str, Any]], prefix: str, described: set[type] | None = None
) -> str:
    """A heading, what the class is, and a table of its keys; then the same for dataclasses not yet ``described``."""
    described = set() if described is None else described
    text = f"\n### {title}\n\n{_docstring(cls)}\n"
    hints, texts = typing.get_type_hints(cls), key_docs(cls)
    rows, nested = [], ""
    for field in dataclasses.fields(cls):
        if field.name == "_target_" or (field.name == "name" and values):
            continue
        shown = list(dict.fromkeys(_shown(mine[field.name]) for mine in values.values())) or [_default(field)]
        value = shown[0] if len(shown) == 1 else "by option: " + ", ".join(shown[:4]) + (" …" if len(shown) > 4 else "")
        key = f"{prefix}.{field.name}" if prefix else field.name
        rows.append(f"| `{key}` | {_type(hints[field.name])} | {value} | {_cell(texts[field.name])} |\n")
        inner = _held_class(hints[field.name])
        if inner is not None and inner not in described:
            described.add(inner)
            place = f"{key}[]" if typing.get_origin(hints[field.name]) is list else key
            nested += _class_text(f"{inner.__name__}, of `{place}`", inner, {}, place, described)
    table = "\n| key | type | default | what it is |\n|---|---|---|---|\n" + "".join(rows) if rows else ""
    return text + table + nested


def key_docs(cls: type) -> dict[str, str]:
    """The text under each field of a dataclass, and of the classes that it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            found |= _own_key_docs(base)
    return found


@functools.cache
def _own_key_docs(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node, below in zip(body.body, body.body[1:], strict=False):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[node.target.id] = inspect.cleandoc(below.value.value)
    return found


def _held_class(hint: Any) -> type | None:
    """The dataclass that a key holds, by itself, in a list or unless null."""
    return next((part for part in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(part)), None)  # type: ignore[return-value]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _docstring(cls: type) -> str:
    return (inspect.getdoc(cls) or "").replace("``", "`")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return _shown(field.default_factory())
    return _shown(field.default)


def _shown(value: Any) -> str:
    if value == MISSING:
        return "required"
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if dataclasses.is_dataclass(value) or (isinstance(value, dict) and value):
        return "see the file"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        value = f"{value:g}"
    text = str(value).replace("|", "\\|").replace("\n", "\\n").replace("'", "")
    return f"`{text}`" if text else "empty"


def _type(hint: Any) -> str:
    """A type as a reader writes it: `list[str] or null`."""
    if hint is type(None):
        return "null"
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_type, typing.get_args(hint)))
    args = typing.get_args(hint)
    name = "any" if hint is Any else hint.__name__
    return f"{name}[{', '.join(map(_type, args))}]" if args else name


def main() -> int:
    """Write the page, or with --check say whether it is current."""
    text = page()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    return int(TARGET.read_text(encoding="utf-8") != text)


if __name__ == "__main__":
    sys.exit(main())
