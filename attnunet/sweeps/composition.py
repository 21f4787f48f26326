"""How a job of a sweep gets its configuration."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf


def job(loader: ConfigLoaderImpl, sweep: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """What Hydra's `load_sweep_config` answers; jobs that choose the same in each group share its 0.2 s.

    Args:
        sweep: the configuration of the whole sweep.
        overrides: of the job.
    """
    name, hydra_s = sweep.hydra.job.config_name, tuple(sweep.hydra.overrides.hydra)
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    # As Hydra tells them apart: a group's choices make the list of files, all else is applied to the result, in its order.
    named = [o for o in parsed if o.package or options(loader, o.key_or_group, name, hydra_s)]
    values = [o for o in parsed if o not in named or isinstance(o.value(), dict)]
    choices = [str(override.input_line) for override in parsed if override not in values]
    composed = copy.deepcopy(composition(loader, name, (*hydra_s, *choices)))
    loader._apply_overrides_to_config(values, composed)
    composed.hydra.overrides.task = list(overrides)
    rules = composed.hydra.job.config.override_dirname
    composed.hydra.job.override_dirname = get_overrides_dirname(
        parsed, kv_sep=rules.kv_sep, item_sep=rules.item_sep, exclude_keys=rules.exclude_keys
    )
    OmegaConf.copy_cache(from_config=sweep, to_config=composed)  # the time in the name of the sweep's folder
    return composed


# Bounded, since some launchers make a loader for each job.
@lru_cache(maxsize=32)
def composition(loader: ConfigLoaderImpl, name: str, overrides: tuple[str, ...]) -> DictConfig:
    return loader.load_configuration(name, list(overrides), RunMode.RUN)


@lru_cache(maxsize=256)
def options(loader: ConfigLoaderImpl, key: str, name: str, overrides: tuple[str, ...]) -> list[str]:
    """The choices of a group, on the search path that these overrides give; none where the key is no group."""
    return loader.get_group_options(key, config_name=name, overrides=list(overrides))
