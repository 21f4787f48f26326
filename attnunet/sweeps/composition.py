"""Compose the configuration of a command, and the configuration of each job of a sweep.

Only this module uses private parts of Hydra's loader. The parts are those of hydra-core 1.3. tests/test_composition.py checks
that they still work.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from attnunet.config import CONF


class CachingLoader(ConfigLoaderImpl):
    """Hydra's loader with a cache, because composing takes 0.2 s. The choices of the groups are the key of the cache."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of a job. It equals the configuration that Hydra's own loader returns.

        Args:
            master_config: the configuration of the whole sweep.
            sweep_overrides: the overrides of the job.
        """
        name, hydra_s = master_config.hydra.job.config_name, tuple(master_config.hydra.overrides.hydra)
        parsed = OverridesParser.create().parse_overrides(sweep_overrides)
        # As in Hydra, the choices of groups select the files. The other overrides are then applied to the result, in order.
        named = [o for o in parsed if o.package or options(self, o.key_or_group, name, hydra_s)]
        values = [o for o in parsed if o not in named or isinstance(o.value(), dict)]
        choices = [str(override.input_line) for override in parsed if override not in values]
        composed = copy.deepcopy(compose_groups(self, name, (*hydra_s, *choices)))
        self._apply_overrides_to_config(values, composed)
        composed.hydra.overrides.task = sweep_overrides
        rules = composed.hydra.job.config.override_dirname
        composed.hydra.job.override_dirname = get_overrides_dirname(
            parsed, kv_sep=rules.kv_sep, item_sep=rules.item_sep, exclude_keys=rules.exclude_keys
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=composed)  # keeps the time in the sweep folder's name
        return composed


def open_loader(config_dir: str | None) -> CachingLoader:
    """Return a loader with the search path that Hydra makes for a command with this --config-dir."""
    search = create_config_search_path(CONF)
    if config_dir is not None:
        path = f"file://{Path(config_dir).absolute()}"
        search.prepend(provider="command-line", path=path, anchor=SearchPathQuery(provider="schema"))
    return CachingLoader(search)


# The cache belongs to the module, because joblib and submitit pickle the loader for each job. The size of the cache is
# limited, because each copy of the loader adds entries.
@lru_cache(maxsize=32)
def compose_groups(loader: ConfigLoaderImpl, name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Return the configuration that a loader composes. The configuration is cached, so the caller must not change it."""
    return loader.load_configuration(name, list(overrides), RunMode.RUN)


@lru_cache(maxsize=256)
def options(loader: ConfigLoaderImpl, key: str, name: str, overrides: tuple[str, ...]) -> list[str]:
    """Return the choices of a group on the search path that these overrides set; an empty list if the key is not a group."""
    return loader.get_group_options(key, config_name=name, overrides=list(overrides))
