"""Check the jobs of a sweep before the first job starts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, flag_override, open_dict

from attnunet import config
from attnunet.config import as_typed, checks, objects, without_hydra
from attnunet.errors import UserError, first_line
from attnunet.sweeps.overrides import explain_refusals

MOST_JOBS = 10_000


def check_grid(cfg: DictConfig, loader: ConfigLoader) -> tuple[list[list[str]] | None, DictConfig]:
    """Check every job of a sweep; return the overrides of each job, and the configuration of the first job.

    For a search, return None in place of the overrides. If several jobs share data, split and augmentation, these are
    checked only once.
    """
    jobs: dict[str, DictConfig] = {}
    threads, folders, lengths, monitors = set(), set(), set(), set()
    overrides_of_jobs = list(itertools.islice(list_jobs(cfg), MOST_JOBS + 1))
    if len(overrides_of_jobs) > MOST_JOBS:
        raise config.ConfigError(f"{' '.join(as_typed(cfg.hydra.overrides.task))}: allowed: at most {MOST_JOBS} jobs")
    for number, overrides in enumerate(overrides_of_jobs):
        try:
            composed = compose_job(cfg, overrides, loader)
            job = config.settle(without_hydra(composed), overrides)
            checks.check(job)
            folders.add(job_folder(composed, number))
        except UserError as error:
            shown = [override for override in overrides if not override.startswith("tracking.uri=")]  # it may hold a password
            raise config.ConfigError(f"job {' '.join(shown)}\n{error}") from error
        jobs.setdefault(str((job.data, job.split, job.augment, job.image_size, job.image_type, job.batch_size)), job)
        threads.add(job.trainer.threads)
        lengths.add((job.epochs, job.budget_images))
        monitors.add(job.monitor)
    if len(monitors) > 1:
        raise config.ConfigError(f"monitor={','.join(sorted(monitors))}: ranks the jobs of a sweep; allowed: one value")
    if cfg.hydra.sweeper.get("pruner") and len(lengths) > 1:
        raise config.ConfigError(
            f"hydra/sweeper/pruner={cfg.hydra.runtime.choices.get('hydra/sweeper/pruner')}: compares the jobs epoch by epoch, "
            "but they differ in epochs or budget_images; allowed: one length for all jobs, or hydra/sweeper/pruner=null"
        )
    if len(threads) > 1 and cfg.hydra.launcher._target_.endswith(("BasicLauncher", "JoblibLauncher")):
        raise config.ConfigError(
            f"trainer.threads={sorted(map(str, threads))}: the jobs share a process, which sets it once; allowed: one value"
        )
    if len(folders) < len(overrides_of_jobs):
        found = composed.hydra.sweep.subdir
        raise config.ConfigError(f"hydra.sweep.subdir={found}: jobs would share a folder; allowed: a name for each job")
    for job in jobs.values():
        objects.check_run(job)
    config.check_folder("hydra.sweep.dir", cfg.hydra.sweep.dir)
    return overrides_of_jobs if is_grid(cfg) else None, next(iter(jobs.values()))


def compose_job(cfg: DictConfig, overrides: list[str], loader: ConfigLoader) -> DictConfig:
    """Return the configuration of a job, including Hydra's part."""
    try:
        return loader.load_sweep_config(cfg, overrides)
    except Exception as error:  # an error of Hydra or OmegaConf, or ValueError
        wrong = explain_refusals(loader, cfg.hydra.job.config_name, cfg.hydra.overrides.hydra, overrides, sweep=False)
        raise config.ConfigError("\n".join(wrong) or first_line(error)) from error


def job_folder(composed: DictConfig, number: int) -> str:
    """Return the name of a job's folder in hydra.sweep.dir. The table of the sweep reads the outcome of the job there."""
    with open_dict(composed.hydra), flag_override(composed, "readonly", False):
        composed.hydra.job.num = composed.hydra.job.id = number
    name = str(composed.hydra.sweep.subdir)
    if Path(name).name != name or name in ("", ".."):
        raise config.ConfigError(f"hydra.sweep.subdir={name}: allowed: the name of a folder, without /")
    return name


def list_jobs(cfg: DictConfig) -> Iterator[list[str]]:
    """Yield the overrides of each job of a grid, in the same way as Hydra's basic sweeper.

    A search has no grid. For a search, first yield a job in which each key has its first value. Then change one key at a
    time, and yield a job for each of its other choices, or for the other end of its interval or range.
    """
    overrides = all_overrides(cfg)
    if is_grid(cfg):
        if searched := [str(o.input_line) for o in overrides if o.value_type == ValueType.INTERVAL_SWEEP]:
            raise config.ConfigError(f"{searched[0]}: an interval needs hydra/sweeper=optuna; allowed: A,B or range(A,B,STEP)")
        yield from (list(job) for job in itertools.product(*(list_values(o, values) for o in overrides)))
        return
    choices = [list_values(o, extremes) for o in overrides]
    first = [key[0] for key in choices]
    yield first
    for place, key in enumerate(choices):
        yield from ([*first[:place], value, *first[place + 1 :]] for value in key[1:])


def all_overrides(cfg: DictConfig) -> list[Override]:
    """Return the overrides of a sweep: those of the sweeper, and those of the command line."""
    params = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items()]
    return parse_overrides([*params, *as_typed(cfg.hydra.overrides.task)])


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Return the parsed overrides. If several have the same key, return the last: the command line wins over the params."""
    loader: Any = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None  # for glob()
    return list({o.get_key_element(): o for o in OverridesParser.create(loader).parse_overrides(list(overrides))}.values())


def list_values(override: Override, expand: Callable[[Override], Iterator[str]]) -> list[str]:
    """Return the overrides that `expand` yields for an override. Each of them has a single value.

    Raises:
        ConfigError: the override has no values, cannot be read, or is a range of more than MOST_JOBS values.
    """
    sweep = override.value()
    try:
        bounded = isinstance(sweep, RangeSweep) and len(list(itertools.islice(sweep.range(), MOST_JOBS + 1)))
        found = [] if bounded and bounded > MOST_JOBS else list(expand(override))
    except (HydraException, ValueError) as error:
        raise config.ConfigError(f"{override.input_line}: {first_line(error)}; allowed: A,B or range(A,B,STEP)") from error
    if not found:
        raise config.ConfigError(f"{override.input_line}: allowed: at least one value, and at most {MOST_JOBS}")
    return found


def is_grid(cfg: DictConfig) -> bool:
    return str(cfg.hydra.sweeper._target_).endswith("GridSweeper")


def values(override: Override) -> Iterator[str]:
    """Split an override into overrides with one value each: a=1,2 yields a=1 and a=2."""
    if override.is_sweep_override():
        yield from (f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator())
    else:
        yield str(override.input_line)


def extremes(override: Override) -> Iterator[str]:
    """Yield an override for each value that a search may try. For an interval or a range, yield only the two ends."""
    sweep, key = override.value(), override.get_key_element()
    if isinstance(sweep, IntervalSweep):
        low, high = float(sweep.start or 0), float(sweep.end or 0)
        if low > high or ("log" in sweep.tags and low <= 0):
            raise config.ConfigError(
                f"{override.input_line}: allowed: interval(LOW,HIGH), with LOW above 0 if it is tagged log"
            )
        yield from (f"{key}={sweep.start}", f"{key}={sweep.end}")
    elif isinstance(sweep, RangeSweep):
        numbers = list(sweep.range())
        yield from (f"{key}={numbers[0]}", f"{key}={numbers[-1]}")
    else:
        yield from values(override)
