"""Write docs/reference/configuration.md from the comments in conf/, the schema, and the signatures of the targets."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError

from attnunet.config import schema, signatures
from attnunet.config.comments import Key, find_choices, read_header, read_keys, read_prefix

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


def known_keys(text: str, group: str, prefix: str) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each key of a group's file, as far as attnunet checks them itself."""
    if not prefix:
        return of_model(schema.Train)
    if target := re.search(r"^_target_: (\S+)", text, re.MULTILINE):
        return of_target(target[1])
    model = {"trainer": schema.Trainer, "evaluation": schema.Evaluation, "tracking": schema.Tracking}.get(group)
    return of_model(model) if model else {}


def rows(keys: Sequence[Key], prefix: str, known: dict[str, dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield the full name, default, allowed values and comment of each key of a file."""
    schemas = {tuple(filter(None, [prefix])): known}
    for key in keys:
        part = schemas[key.path[:-1]].get(key.path[-1], {})
        if not key.inner:
            yield f"`{key.name}`", f"`{key.default}`", allowed(part), key.comment.replace("<", "&lt;")
        elif target := key.inner.get("_target_"):
            yield f"`{key.name}`", f"`{target.value}`", "a `_target_`", ""
            schemas[key.path] = of_target(target.value)
        else:
            other = part.get("additionalProperties")
            same = dict.fromkeys(key.inner, other if isinstance(other, dict) else {})
            schemas[key.path] = part.get("properties") or same


def table(text: str, prefix: str, known: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines on one file of conf/: its description, its commands, its keys."""
    prose, code = read_header(text)
    yield from ([f"{prose}\n"] if prose else [])
    yield from (["```\n" + code + "\n```\n"] if code else [])
    if found := list(rows(read_keys(text, prefix), prefix, known)):
        yield "| key | default | allowed | meaning |\n|---|---|---|---|"
        yield from (f"| {' | '.join(row)} |" for row in found)
        yield ""


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for command in COMMANDS:
        model = getattr(schema, command.title().replace("_", ""))
        parts += [f"## attnunet.{command}\n", *table((CONF / f"{command}.yaml").read_text(), "", of_model(model))]
    for group in (*GROUPS, *PLUGINS):
        parts.append(f"## {group}\n")
        for name, file in find_choices([CONF], group).items():
            text = file.read_text()
            prefix = read_prefix(text, group)
            parts += [f"### {group}={name}\n", *table(text, prefix, known_keys(text, group, prefix))]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
