"""How a job of a sweep gets its configuration."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf


def job(loader: ConfigLoaderImpl, sweep: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """What Hydra's `load_sweep_config` answers; jobs that choose the same in each group share its 0.2 s.

    Args:
        sweep: the configuration of the whole sweep.
        overrides: of the job.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [o for o in parsed if o.type == OverrideType.CHANGE and not o.package and not is_group(loader, o.key_or_group)]
    choices = [str(override.input_line) for override in parsed if override not in values]
    composed = copy.deepcopy(composition(loader, sweep.hydra.job.config_name, (*sweep.hydra.overrides.hydra, *choices)))
    loader._apply_overrides_to_config(values, composed)
    composed.hydra.overrides.task = list(overrides)
    rules = composed.hydra.job.config.override_dirname
    composed.hydra.job.override_dirname = get_overrides_dirname(
        parsed, kv_sep=rules.kv_sep, item_sep=rules.item_sep, exclude_keys=rules.exclude_keys
    )
    OmegaConf.copy_cache(from_config=sweep, to_config=composed)  # the time in the name of the sweep's folder
    return composed


@cache
def composition(loader: ConfigLoaderImpl, name: str, overrides: tuple[str, ...]) -> DictConfig:
    return loader.load_configuration(name, list(overrides), RunMode.RUN)


@cache
def is_group(loader: ConfigLoaderImpl, key: str) -> bool:
    return bool(loader.get_group_options(key))
