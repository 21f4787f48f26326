"""Configure and check launchers and sweepers, which are plugins of Hydra."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError
from omegaconf import DictConfig, OmegaConf

from attnunet.config import CONF, ConfigError


@cache
def store_launchers() -> None:
    """Merge each file of conf/hydra/launchers into the configuration of the launcher with the same name.

    A plugin stores that configuration; the types in it do not change. The files are not in conf/hydra/launcher, because a
    file there could set only keys of the launcher itself.
    """
    Plugins.instance()  # imports the plugins, which store their configurations
    store = ConfigStore.instance()
    for path in sorted(Path(CONF, "hydra", "launchers").glob("*.yaml")):
        node = OmegaConf.load(path)
        with suppress(ConfigLoadError):  # the plugin is not installed; `check_plugins` says so
            node = OmegaConf.merge({"launcher": store.load(f"hydra/launcher/{path.name}").node}, node)
        store.store(group="hydra/launcher", name=path.stem, node=node, package="hydra", provider="attnunet")


def check_plugins(cfg: DictConfig) -> None:
    """Check that the launcher and the sweeper are installed and have valid values, and that the sweeper belongs to attnunet.

    If a package is missing, the message names the extra of attnunet that installs it. The name of the extra is the part of
    the choice before the first underscore.
    """
    installed = {f"{plugin.__module__}.{plugin.__name__}" for plugin in Plugins.instance().discover()}
    for part in ("launcher", "sweeper"):
        target, choice = str(OmegaConf.select(cfg, f"hydra.{part}._target_")), cfg.hydra.runtime.choices.get(f"hydra/{part}")
        if target.startswith("hydra_plugins.") and target not in installed:
            extra = str(choice).partition("_")[0]
            raise ConfigError(f"hydra/{part}={choice} needs an extra: pip install 'attnunet[{extra}]'")
        if target not in installed:
            raise ConfigError(f"hydra.{part}._target_={target}: no such {part}; allowed: a choice of hydra/{part}")
        check_values(cfg.hydra[part], part)
    if not cfg.hydra.sweeper._target_.startswith("hydra_plugins.attnunet_"):
        ours = ", ".join(sorted(path.stem for path in Path(CONF, "hydra", "sweeper").glob("*.yaml")))
        raise ConfigError(f"hydra/sweeper={choice}: makes no parent run for its jobs; allowed: {ours}")


def check_values(node: DictConfig, part: str) -> None:
    """Raise ConfigError if a launcher or sweeper has a value that it cannot take. Hydra checks the types."""
    from attnunet.config.objects import check_objects

    plain: Any = OmegaConf.to_container(node, resolve=True)
    for name, value in plain.items():
        key = f"hydra.{part}.{name}"
        if name in ("n_jobs", "n_trials", "max_batch_size") and isinstance(value, int) and value < 1:
            raise ConfigError(f"{key}={value}: allowed: 1 or more")
        check_objects(value, key, f"hydra/{part}")
