"""Functions for a configuration that is not yet checked. Entry modules import this module, so it imports only Hydra."""

from __future__ import annotations

import copy
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override

from attnunet.errors import UserError


class ConfigError(UserError):
    """The configuration cannot run; each line of the message names a key, its value and what is allowed."""


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Return a command's configuration without Hydra's part."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def as_typed(overrides: Any) -> list[str]:
    """Return overrides in the form in which they were typed; interpolations are not resolved."""
    plain: Any = OmegaConf.to_container(overrides, resolve=False)
    return plain


def group_choices(choices: Mapping[str, str | None]) -> dict[str, str]:
    """Return the choice of each group of a command. Leave out Hydra's groups, and groups of the form GROUP@PACKAGE."""
    return {group: name for group, name in choices.items() if name and not (group.startswith("hydra") or "@" in group)}


def settle(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration with only one of `epochs` and `budget_images`; set the other one to None.

    If the command line gives a value for one of the two keys, keep this key. If it gives neither, keep `budget_images` if a
    YAML file sets it, because `epochs` has a default. In any other case, return the configuration without a change.
    """
    lengths = {"epochs", "budget_images"}
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    given = lengths & {override.key_or_group for override in parsed if override.value() is not None}
    if not given and cfg.get("budget_images") is not None:
        given = {"budget_images"}
    if len(given) != 1:
        return cfg
    settled = copy.deepcopy(cfg)
    with flag_override(settled, ["struct", "readonly"], False):
        settled[(lengths - given).pop()] = None
    return settled


def list_names(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the full name of each key of a plain configuration, such as loss.weights.dice, but not `_target_` and the like."""
    for name, value in node.items() if isinstance(node, Mapping) else ():
        if not str(name).startswith("_"):
            yield f"{prefix}{name}"
            yield from list_names(value, f"{prefix}{name}.")


def format_override(key: str, value: str | list[str]) -> str:
    """Return the override of a key by a text, or by a list of texts, as it is typed in a shell.

    It is quoted where Hydra or the shell needs it. Hydra reads 12345678 without quotes as a number.
    """
    texts, form = ([value], "{}={}") if isinstance(value, str) else (value, "{}=[{}]")
    plain = form.format(key, ",".join(texts))
    try:
        as_it_is = OverridesParser.create().parse_override(plain).value() == value
    except HydraException:
        as_it_is = False
    quoted = form.format(key, ",".join('"{}"'.format(text.replace('"', '\\"')) for text in texts))
    return shlex.quote(plain if as_it_is else quoted)


def is_folder(run: Any) -> bool:
    """Return whether the value of the key `run` names a folder, which holds a model outside of a store."""
    return isinstance(run, str) and Path(run).is_dir()


def check_folder(key: str, folder: str) -> None:
    """Raise ConfigError if a folder cannot be written to, or if it does not exist and cannot be made."""
    path = Path(folder).absolute()
    try:
        path.exists()  # raises OSError if the name is too long
        there = next(parent for parent in (path, *path.parents) if os.path.lexists(parent))
        found = "cannot be written to" if there.is_dir() else "is not a folder"
        usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError as error:
        there, found, usable = path, str(error.strerror), False
    if not usable:
        raise ConfigError(f"{key}={folder}: {there} {found}; allowed: a folder that can be made and written to")
