"""Write docs/reference/configuration.md from the comments in conf/, the schema, and the signatures of the targets."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError

from attnunet.config import schema, signatures

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "reference" / "configuration.md"

COMMANDS = ("train", "evaluate", "predict", "compare", "export", "export_split", "audit")
GROUPS = (
    "model",
    "loss",
    "data",
    "split",
    "augment",
    "sampler",
    "optimizer",
    "trainer",
    "evaluation",
    "tracking",
    "experiment",
)
PLUGINS = ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/pruner")
FOLDERS = {"hydra/launcher": "hydra/launchers"}
"""Where the files of a group lie, if not in a folder of its name."""
TYPES = {
    **{"integer": "whole number", "number": "number", "string": "text", "object": "dictionary"},
    **{"boolean": "`true`, `false`", "null": "`null`"},
}
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
INTRODUCTION = """<!-- `make docs` writes this page from the comments in conf/. Change it there. -->
# Configuration

Set a key with `KEY=VALUE`, and choose a file of a group with `GROUP=CHOICE`, such as `model=conv model.dropout=0.1`. Each
table lists the keys of one file in `conf/` with their defaults. `python -m attnunet.train --cfg job` prints the composed
configuration. [Set a run up](../guides/configure.md) explains how the parts fit together.
"""


def header(text: str) -> tuple[str, str]:
    """Return the prose and the commands of the comments at the top of a file; commands are indented."""
    comments = [line.removeprefix("#").removeprefix(" ") for line in re.findall(r"\A(?:#.*\n)*", text)[0].splitlines()]
    code = "\n".join(line.strip("\n").removeprefix("  ") for line in comments if line.startswith("  "))
    prose = "\n".join(line for line in comments if not line.startswith(("  ", "@package")))
    return re.sub(r"\n{2,}", "\n\n", prose).strip(), code


def of_model(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each field of a pydantic model."""
    whole = model.model_json_schema()
    named = whole.get("$defs", {})
    return {name: named.get(part.get("$ref", "/-").rpartition("/")[2], part) for name, part in whole["properties"].items()}


def of_target(target: str) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each parameter of a target of attnunet; an empty one where pydantic knows none."""
    found: dict[str, dict[str, Any]] = {}
    for name, (annotation, _) in (signatures.signature(target) or {}).items():
        try:
            found[name] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).json_schema()
        except PydanticUserError:  # of an object, such as a layer of Keras
            found[name] = {}
    return found


def allowed(part: dict[str, Any]) -> str:
    """Return in words what a JSON schema allows."""
    if kinds := part.get("anyOf", part.get("oneOf")):
        return "; ".join(dict.fromkeys(words for inner in kinds if (words := allowed(inner))))
    if "enum" in part or "const" in part:
        return ", ".join(f"`{value}`" for value in part.get("enum", [part.get("const")]))
    if part.get("type") == "array":
        items = allowed(part.get("items", {}))
        return f"list ({items})" if items else "list"
    limits = [f"{words} {part[key]}" for key, words in LIMITS.items() if key in part]
    return ", ".join([TYPES.get(part.get("type", ""), ""), *limits])


def known_keys(file: Path, group: str, prefix: str) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each key of a group's file, as far as attnunet checks them itself."""
    if not prefix:
        return of_model(schema.Train)
    if target := re.search(r"^_target_: (\S+)", file.read_text(), re.MULTILINE):
        return of_target(target[1])
    model = {"trainer": schema.Trainer, "evaluation": schema.Evaluation, "tracking": schema.Tracking}.get(group)
    return of_model(model) if model else {}


def default(node: yaml.Node) -> str:
    """Return a YAML value on one line; of a list of objects, the names of their classes."""
    value: Any = yaml.safe_load(yaml.serialize(node))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(item["_target_"].rpartition(".")[2] for item in value)
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def rows(node: yaml.MappingNode, lines: list[str], prefix: str, known: dict[str, dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield the full name, default, allowed values and comment of each key below a mapping."""
    for key, value in node.value:
        name, part = f"{prefix}{key.value}", known.get(key.value, {})
        if key.value in ("defaults", "hydra") or key.value.startswith("_"):
            continue
        if isinstance(value, yaml.MappingNode) and value.value:
            inside = {inner.value: entry for inner, entry in value.value}
            if "_target_" in inside:
                yield f"`{name}`", f"`{inside['_target_'].value}`", "a `_target_`", ""
                below = of_target(inside["_target_"].value)
            else:
                other = part.get("additionalProperties")
                below = part.get("properties") or dict.fromkeys(inside, other if isinstance(other, dict) else {})
            yield from rows(value, lines, f"{name}.", below)
        else:
            line = lines[value.end_mark.line] if value.end_mark.line < len(lines) else ""
            comment = (
                "" if getattr(value, "flow_style", None) is False else line[value.end_mark.column :].partition("#")[2].strip()
            )
            yield f"`{name}`", f"`{default(value)}`", allowed(part), comment.replace("<", "&lt;")


def table(file: Path, prefix: str, known: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines on one file of conf/: its description, its commands, its keys."""
    text = file.read_text()
    prose, code = header(text)
    yield from ([f"{prose}\n"] if prose else [])
    yield from (["```\n" + code + "\n```\n"] if code else [])
    if found := list(rows(yaml.compose(text), text.splitlines(), prefix, known)):
        yield "| key | default | allowed | meaning |\n|---|---|---|---|"
        yield from (f"| {' | '.join(row)} |" for row in found)
        yield ""


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for command in COMMANDS:
        model = getattr(schema, command.title().replace("_", ""))
        parts += [f"## attnunet.{command}\n", *table(CONF / f"{command}.yaml", "", of_model(model))]
    for group in (*GROUPS, *PLUGINS):
        parts.append(f"## {group}\n")
        for file in sorted((CONF / FOLDERS.get(group, group)).glob("*.yaml")):
            package = re.search(r"# @package (\S+)", file.read_text())
            prefix = {"_global_": "", "hydra": "hydra.", None: f"{group.replace('/', '.')}."}[package and package[1]]
            parts += [f"### {group}={file.stem}\n", *table(file, prefix, known_keys(file, group, prefix))]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
