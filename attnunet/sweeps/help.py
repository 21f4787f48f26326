"""The answer of a command to --help: the comments in conf/ beside the keys, and the choices of the command's groups."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from attnunet.config import CONF
from attnunet.config.comments import Key, find_choices, read_defaults, read_header, read_keys, read_prefix

WIDTHS = (60, 100)
"""The smallest and the largest width in columns. Between them, the width is that of the terminal."""
COLUMN = 27
"""The column where the comments begin."""
DOCS = (
    "--help GROUP=CHOICE shows the keys of a choice, and --cfg job the composed configuration.",
    "Docs: docs/guides/configure.md and docs/reference/configuration.md in the repository of attnunet.",
)
wrap = partial(textwrap.wrap, break_on_hyphens=False)


@dataclass(frozen=True)
class Group:
    """A group of a command: its name, its comment, and the file of each choice."""

    name: str
    default: str
    comment: str
    choices: dict[str, Path]


@dataclass(frozen=True)
class Command:
    """The keys and groups of a command, read from its YAML file.

    Attributes:
        name: the name of the configuration, such as train.
        folders: the folders with configurations; the first one wins.
    """

    name: str
    folders: Sequence[str | Path]

    @cached_property
    def text(self) -> str:
        return next(path for folder in self.folders if (path := Path(folder, f"{self.name}.yaml")).exists()).read_text()

    @cached_property
    def groups(self) -> list[Group]:
        """The groups of the command, and those groups of Hydra for which the command has a choice of its own."""
        entries = {entry.name: entry for entry in read_defaults(self.text)}
        hydra = entries.pop("hydra", None)
        if hydra is not None:
            text = find_choices(self.folders, "hydra")[hydra.default].read_text()
            entries |= {f"hydra/{entry.name.removeprefix('override ')}": entry for entry in read_defaults(text)}
        return [
            Group(name, entry.default, entry.comment, choices)
            for name, entry in entries.items()
            if (choices := find_choices(self.folders, name))
        ]


def describe_command(name: str, config_dir: str | None, overrides: Sequence[str] = ()) -> str:
    """Return the help of a command, and of each choice of a group that the overrides name.

    Args:
        name: the name of the configuration, such as train.
        config_dir: the user's own folder of configurations; None if there is none.
        overrides: valid overrides from the command line.
    """
    command = Command(name, [config_dir, CONF] if config_dir else [CONF])
    given = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    least, most = WIDTHS
    width = max(least, min(most, shutil.get_terminal_size((most, 0)).columns))
    keys = read_keys(command.text)
    title = "Keys, as KEY=VALUE; you give those with ???:" if any(k.default == "???" for k in keys) else "Keys, as KEY=VALUE:"
    lines = [*describe_header(command.text, width), title, *describe_keys(keys, width), ""]
    if command.groups:
        lines += ["Groups, as GROUP=CHOICE:"]
        for group in command.groups:
            choices = f"[{', '.join(sorted({*group.choices, group.default} - {'null'}))}]"
            chosen = f"{group.name}={given.get(group.name, group.default)}"
            lines += set_row(chosen, f"{group.comment} {choices}".strip(), width)
        lines += [""]
    for group in command.groups:
        for choice in given.get(group.name, "").split(","):
            if choice in group.choices:
                text = group.choices[choice].read_text()
                lines += [f"{group.name}={choice}", *describe_header(text, width)]
                lines += [*describe_keys(read_keys(text, read_prefix(text, group.name)), width), ""]
    return "\n".join([*lines, *(line for text in DOCS for line in wrap(text, width))])


def describe_header(text: str, width: int) -> list[str]:
    """Return the lines of the comments at the top of a file."""
    prose, code = read_header(text)
    examples = ["", *(f"  {line}" for line in code.splitlines())] if code else []
    paragraphs = "\n\n".join("\n".join(wrap(paragraph, width)) for paragraph in prose.split("\n\n"))
    return [*paragraphs.splitlines(), *examples, ""]


def describe_keys(keys: Iterable[Key], width: int) -> Iterator[str]:
    """Yield the lines of the keys with their defaults and comments. A `_target_` is left out."""
    for key in keys:
        if not key.inner:
            yield from set_row(f"{key.name}={key.default}", key.comment, width)


def set_row(left: str, right: str, width: int) -> list[str]:
    """Return a text and its explanation in two columns. A text that is wider than its column gets lines of its own."""
    beside = wrap(right, width - COLUMN) or [""]
    above = wrap(left, width, initial_indent="  ", subsequent_indent="    ")
    if len(above) == 1 and len(above[0]) < COLUMN - 1:
        beside[0] = f"{above.pop():{COLUMN}}{beside[0]}"
        return [beside[0].rstrip(), *(" " * COLUMN + line for line in beside[1:])]
    return [*above, *(" " * COLUMN + line for line in beside if line)]
