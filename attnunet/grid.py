"""The jobs of a sweep, checked before the first of them starts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from attnunet import composition, config
from attnunet.config import own


def check_plugins(cfg: DictConfig) -> None:
    """Launcher and sweeper are installed; an extra is named like its choices, up to their first underscore."""
    installed = {f"{plugin.__module__}.{plugin.__name__}" for plugin in Plugins.instance().discover()}
    for part in ("launcher", "sweeper"):
        if cfg.hydra[part]._target_ not in installed:
            choice = cfg.hydra.runtime.choices[f"hydra/{part}"]
            extra = choice.partition("_")[0]
            raise config.ConfigError(f"hydra/{part}={choice} needs an extra: pip install 'attnunet[{extra}]'")


def check_grid(cfg: DictConfig) -> tuple[list[list[str]] | None, DictConfig]:
    """Every job's keys and values first; then, once for all jobs that share them, data, split and augmentation.

    -> the jobs' overrides, None where a sweeper searches; the first job's configuration.
    """
    check_plugins(cfg)
    jobs, threads = {}, set()
    loader: Any = GlobalHydra.instance().config_loader()
    overrides_of_jobs = list(grid(cfg))
    for overrides in overrides_of_jobs:
        try:
            job = own(composition.job(loader, cfg, overrides))
            config.check(job)
        except (HydraException, OmegaConfBaseException, config.ConfigError) as error:
            shown = [override for override in overrides if not override.startswith("tracking.uri=")]  # it may hold a password
            raise config.ConfigError(f"job {' '.join(shown)}\n{error}") from error
        jobs[str((job.data, job.split, job.augment, job.image_size, job.batch_size))] = job
        threads.add(job.trainer.threads)
    if len(threads) > 1 and cfg.hydra.launcher._target_.endswith(("BasicLauncher", "JoblibLauncher")):
        raise config.ConfigError(
            f"trainer.threads={sorted(map(str, threads))}: TensorFlow sets it once a process, and jobs share one"
        )
    for job in jobs.values():
        config.ready(job)
    return overrides_of_jobs if is_grid(cfg) else None, next(iter(jobs.values()))


def grid(cfg: DictConfig) -> Iterator[list[str]]:
    """The overrides of each job of a sweep, as Hydra's basic sweeper takes them from recipe and command line.

    A sweeper that searches is not bound to a grid: of it the ends and choices of each key, the others at their first.
    """
    params = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items()]
    overrides = parsed([*params, *cfg.hydra.overrides.task])
    if is_grid(cfg):
        yield from (list(job) for job in itertools.product(*map(values, overrides)))
        return
    choices = [list(ends(o)) for o in overrides]
    first = [key[0] for key in choices]
    yield first
    for place, key in enumerate(choices):
        yield from ([*first[:place], value, *first[place + 1 :]] for value in key[1:])


def parsed(overrides: Sequence[str]) -> list[Override]:
    """One a key: a sweeper's params come first, the command line has the last word."""
    return list({o.get_key_element(): o for o in OverridesParser.create().parse_overrides(list(overrides))}.values())


def is_grid(cfg: DictConfig) -> bool:
    return str(cfg.hydra.sweeper._target_).endswith("BasicSweeper")


def values(override: Override) -> Iterator[str]:
    """What an override sets in the jobs of a grid, one override each."""
    if override.is_sweep_override():
        yield from (f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator())
    else:
        yield str(override.input_line)


def ends(override: Override) -> Iterator[str]:
    """The same where a sweeper searches: of numbers only the lowest and the highest."""
    sweep, key = override.value(), override.get_key_element()
    if isinstance(sweep, IntervalSweep):
        yield from (f"{key}={sweep.start}", f"{key}={sweep.end}")
    elif isinstance(sweep, RangeSweep):
        numbers = list(sweep.range())
        yield from (f"{key}={numbers[0]}", f"{key}={numbers[-1]}")
    else:
        yield from values(override)
