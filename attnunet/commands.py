"""How a command starts and how it ends when it cannot run: one message, exit code 1, before anything was begun."""

import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigLoadError, ConfigNode, ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnunet import config

# For each group that --help lists, Hydra copies the store of its own configurations, 0.3 s in all. The store is a
# singleton that hands out copies of what it holds, so the same one will do.
ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]

stored = ConfigStore.load


def load(self: ConfigStore, config_path: str) -> ConfigNode:
    """Not what lies in conf/: Hydra would merge our launchers and sweepers into those that plugins store by that name."""
    if Path(config.CONF, config_path).is_file():
        raise ConfigLoadError(config_path)
    return stored(self, config_path)


ConfigStore.load = load  # type: ignore[method-assign]


def stop_on_error(ready: Callable[[], Any]) -> Any:
    """ready(), or exit code 1: with one message where configuration or data are at fault, with the traceback elsewhere."""
    from attnunet.data.slices import DataError

    try:
        return ready()
    except (config.ConfigError, DataError) as error:
        sys.exit(f"\nattnunet: this cannot run.\n{error}")
    except Exception:
        traceback.print_exc()
        sys.exit(1)


class Check(Callback):
    """Hydra's callback: what cannot run ends before Hydra makes a folder and MLflow a run.

    By SystemExit, since any other exception in a callback becomes a warning.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        stop_on_error(lambda: ready(own))

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **_: Any) -> None:
        stop_on_error(lambda: check_grid(config, str(config_name)))


class Environment(Callback):
    """Hydra's callback: environment variables of a sweep and of what its launcher starts; those that are set stay."""

    def __init__(self, **variables: str) -> None:
        self.variables = variables

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)


def ready(cfg: DictConfig) -> None:
    """Everything that can be wrong before TensorFlow is imported: keys and values, files, split, augmentation."""
    config.check(cfg)
    config.data_and_split(cfg)
    config.make(cfg.augment)()


def check_plugins(cfg: DictConfig) -> None:
    """Launcher and sweeper are installed; an extra is named like its choices, up to their first underscore."""
    installed = {f"{plugin.__module__}.{plugin.__name__}" for plugin in Plugins.instance().discover()}
    for part in ("launcher", "sweeper"):
        if cfg.hydra[part]._target_ not in installed:
            choice = cfg.hydra.runtime.choices[f"hydra/{part}"]
            extra = choice.partition("_")[0]
            raise config.ConfigError(f"hydra/{part}={choice} needs an extra: pip install 'attnunet[{extra}]'")


def check_grid(cfg: DictConfig, config_name: str) -> None:
    """Every job's keys and values first; then, once for all jobs that share them, data, split and augmentation."""
    check_plugins(cfg)
    jobs, threads = {}, set()
    for overrides in grid(cfg):
        try:
            job = compose(config_name, overrides)
            config.check(job)
        except (HydraException, OmegaConfBaseException, config.ConfigError) as error:
            raise config.ConfigError(f"job {' '.join(overrides)}\n{error}") from error
        jobs[str((job.data, job.split, job.augment, job.image_size, job.batch_size))] = job
        threads.add(job.trainer.threads)
    if len(threads) > 1 and cfg.hydra.launcher._target_.endswith(("BasicLauncher", "JoblibLauncher")):
        raise config.ConfigError(
            f"trainer.threads={sorted(map(str, threads))}: TensorFlow sets it once a process, and jobs share one"
        )
    for job in jobs.values():
        ready(job)


def grid(config: DictConfig) -> Iterator[list[str]]:
    """The overrides of each job of a sweep, as Hydra's basic sweeper takes them from recipe and command line.

    A sweeper that searches is not bound to a grid: of it the ends and choices of each key, the others at their first.
    """
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task])
    last = {o.get_key_element(): o for o in parsed}  # the command line has the last word
    if config.hydra.sweeper._target_.endswith("BasicSweeper"):
        yield from (list(job) for job in itertools.product(*map(values, last.values())))
        return
    choices = [list(ends(o)) for o in last.values()]
    first = [key[0] for key in choices]
    yield first
    for place, key in enumerate(choices):
        yield from ([*first[:place], value, *first[place + 1 :]] for value in key[1:])


def values(override: Override) -> Iterator[str]:
    """What an override sets in the jobs of a grid, one override each."""
    if override.is_sweep_override():
        yield from (f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator())
    else:
        yield str(override.input_line)


def ends(override: Override) -> Iterator[str]:
    """The same where a sweeper searches: of numbers only the lowest and the highest, which of a range is its stop."""
    sweep, key = override.value(), override.get_key_element()
    if isinstance(sweep, IntervalSweep):
        yield from (f"{key}={sweep.start}", f"{key}={sweep.end}")
    elif isinstance(sweep, RangeSweep):
        yield from (f"{key}={sweep.start}", f"{key}={sweep.stop}")
    else:
        yield from values(override)


def explained(job: Callable[[], Any], config_name: str) -> None:
    """Run a command's task function; where Hydra refused a key, say which keys there would have been."""
    try:
        job()
    except SystemExit as end:
        if end.code == 1:
            for line in unknown_keys(config_name, sys.argv[1:]):
                print(line, file=sys.stderr)
        raise


def unknown_keys(config_name: str, arguments: list[str]) -> Iterator[str]:
    """A line for each override whose key does not exist beside the groups' choices: what it is, which keys do.

    None where Hydra has said all there is, as of a choice that does not exist.
    """
    try:
        parsed = OverridesParser.create().parse_overrides([a for a in arguments if "=" in a and a[0] not in "-+~"])
    except HydraException:
        yield """quote a value that holds brackets, accents, blanks, '~' or '=', twice: 'data.root="/scans (new)"'"""
        return
    choices = [o for o in parsed if Path(config.CONF, o.key_or_group).is_dir()]
    try:
        first = [next(o.sweep_string_iterator()) if o.is_sweep_override() else o.value() for o in choices]
        with initialize_config_dir(config.CONF, version_base="1.3"):
            cfg = compose(config_name, [f"{o.key_or_group}={value}" for o, value in zip(choices, first, strict=True)])
    except HydraException:
        return
    for override in parsed:
        *parents, name = override.key_or_group.split(".")
        parent = OmegaConf.select(cfg, ".".join(parents)) if parents else cfg
        if override not in choices and isinstance(parent, DictConfig) and name not in parent:
            keys = sorted(str(key) for key in parent if not str(key).startswith("_"))
            yield f"{override.input_line}: no such key; allowed: {', '.join(keys)}"
