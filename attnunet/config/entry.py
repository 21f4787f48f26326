"""Functions on a configuration before its check; entry modules import them, so this module imports only Hydra."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, flag_override

from attnunet.errors import UserError


class ConfigError(UserError):
    """The configuration cannot run; each line of the message names a key, its value and what is allowed."""


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Return a command's configuration without Hydra's part."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def as_typed(overrides: Any) -> list[str]:
    """Return overrides as they were typed, with their interpolations unresolved."""
    plain: Any = OmegaConf.to_container(overrides, resolve=False)
    return plain


def group_choices(choices: Mapping[str, str | None]) -> dict[str, str]:
    """Return the choice of each group of a command; leave out Hydra's groups and groups moved to a package, GROUP@PACKAGE."""
    return {group: name for group, name in choices.items() if name and not (group.startswith("hydra") or "@" in group)}


def settle(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration with either `epochs` or `budget_images`, whichever was given last; the other becomes None.

    The command line comes after the YAML files. In these, `budget_images` comes after `epochs`, which has a default.
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


def check_folder(key: str, folder: str) -> None:
    """Raise ConfigError if a folder does not exist and cannot be made, or cannot be written to."""
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
