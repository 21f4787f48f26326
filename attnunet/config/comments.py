"""The keys and comments of the YAML files in conf/, for --help and for the reference in docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDERS = {"hydra/launcher": "hydra/launchers"}
"""Where the files of a group lie, if not in a folder of its name."""


@dataclass(frozen=True)
class Key:
    """A key of a YAML file.

    Attributes:
        path: the names that lead to the key, such as ("loss", "weights", "dice").
        node: the YAML node of its value.
        comment: the comment behind the value; "" if there is none.
    """

    path: tuple[str, ...]
    node: yaml.Node
    comment: str

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def inner(self) -> dict[str, yaml.Node]:
        """The keys below this key; none if its value is no dictionary, or an empty one."""
        return {key.value: value for key, value in self.node.value} if isinstance(self.node, yaml.MappingNode) else {}

    @property
    def default(self) -> str:
        """The value on one line. A list of objects is shown by the names of their classes."""
        value: Any = yaml.safe_load(yaml.serialize(self.node))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return ", ".join(item["_target_"].rpartition(".")[2] for item in value)
        return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def read_header(text: str) -> tuple[str, str]:
    """Return the prose and the commands of the comments at the top of a file; commands are indented."""
    comments = [line.removeprefix("#").removeprefix(" ") for line in re.findall(r"\A(?:#.*\n)*", text)[0].splitlines()]
    code = "\n".join(line.strip("\n").removeprefix("  ") for line in comments if line.startswith("  "))
    prose = "\n".join(line for line in comments if not line.startswith(("  ", "@package")))
    return re.sub(r"\n{2,}", "\n\n", prose).strip(), code


def read_keys(text: str, prefix: str = "") -> list[Key]:
    """Return the keys of a YAML file, each before the keys below it. Hydra's own keys are left out.

    Args:
        text: the content of the file.
        prefix: the key below which Hydra puts the file; "" for the top level.
    """
    return list(list_keys(yaml.compose(text), text.splitlines(), (prefix,) if prefix else ()))


def list_keys(node: yaml.Node | None, lines: Sequence[str], path: tuple[str, ...]) -> Iterator[Key]:
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if name.value in ("defaults", "hydra") or name.value.startswith("_"):
            continue
        key = Key((*path, name.value), value, find_comment(value, lines))
        yield key
        if key.inner:
            yield from list_keys(value, lines, key.path)


def find_comment(node: yaml.Node, lines: Sequence[str]) -> str:
    """Return the comment behind a value; "" if there is none, or if the value is a block of lines."""
    if getattr(node, "flow_style", None) is False or node.end_mark.line >= len(lines):
        return ""
    return lines[node.end_mark.line][node.end_mark.column :].partition("#")[2].strip()


def read_defaults(text: str) -> list[Key]:
    """Return the groups in the defaults list of a YAML file, each with its choice as the value."""
    node = yaml.compose(text)
    entries: list[yaml.Node] = (
        next((value.value for name, value in node.value if name.value == "defaults"), []) if node else []
    )
    pairs = [entry.value[0] for entry in entries if isinstance(entry, yaml.MappingNode)]
    return [Key((name.value,), value, find_comment(value, text.splitlines())) for name, value in pairs]


def read_prefix(text: str, group: str) -> str:
    """Return the key below which Hydra puts a file of a group; "" for the top level."""
    package = re.search(r"# @package (\S+)", text)
    return {"_global_": ""}.get(package[1], package[1]) if package else group


def find_choices(folders: Sequence[str | Path], group: str) -> dict[str, Path]:
    """Return the file of each choice of a group, by name. If two folders have the same choice, the first folder wins."""
    files = [file for folder in folders[::-1] for file in Path(folder, FOLDERS.get(group, group)).glob("*.yaml")]
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}
