"""How a command starts and how it ends when it cannot run: one message, exit code 1, before anything was begun."""

from __future__ import annotations

import copy
import itertools
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnunet import config

if TYPE_CHECKING:
    from attnunet.tracking.sweep import Sweep

# For each group that --help lists, Hydra copies the store of its own configurations, 0.3 s in all. The store is a
# singleton that hands out copies of what it holds, so the same one will do.
ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
# Before the first job a sweeper composes every job, to see that it can; `check_grid` has done so.
Sweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]


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
    """Hydra's callback: what cannot run ends before Hydra makes a folder and MLflow a run; what can, as a sweep, begins.

    By SystemExit, since any other exception in a callback becomes a warning.
    """

    sweep: ClassVar[Sweep | None] = None
    """The sweep that is under way in this process."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        stop_on_error(lambda: ready(own))

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **_: Any) -> None:
        stop_on_error(lambda: self.begin(config, str(config_name)))

    def begin(self, cfg: DictConfig, config_name: str) -> None:
        jobs, first = check_grid(cfg, config_name)

        from attnunet.tracking.sweep import Sweep

        tracking, overrides = first.tracking, list(cfg.hydra.overrides.task)
        Check.sweep = Sweep(
            Path(tracking.root), tracking.uri, tracking.patience, first.study, overrides, jobs, Path(cfg.hydra.sweep.dir)
        )


def ready(cfg: DictConfig) -> None:
    """Everything that can be wrong before TensorFlow is imported: keys and values, files, split, augmentation."""
    config.check(cfg)
    config.data_and_split(cfg)
    config.make(cfg.augment)()


def check_grid(cfg: DictConfig, config_name: str) -> tuple[list[list[str]], DictConfig]:
    """Every job's keys and values first; then, once for all jobs that share them, data, split and augmentation.

    -> the jobs' overrides, the first job's configuration.
    """
    jobs, threads = {}, set()
    composed: dict[tuple[str, ...], DictConfig] = {}
    overrides_of_jobs = list(grid(cfg))
    for overrides in overrides_of_jobs:
        try:
            job = composed_job(config_name, overrides, composed)
            config.check(job)
        except (HydraException, OmegaConfBaseException, config.ConfigError) as error:
            raise config.ConfigError(f"job {' '.join(overrides)}\n{error}") from error
        jobs[str((job.data, job.split, job.augment, job.image_size, job.batch_size))] = job
        threads.add(job.trainer.threads)
    if len(threads) > 1 and cfg.hydra.launcher._target_.endswith("BasicLauncher"):
        raise config.ConfigError(
            f"trainer.threads={sorted(map(str, threads))}: TensorFlow sets it once a process, and all jobs share this one"
        )
    for job in jobs.values():
        ready(job)
    return overrides_of_jobs, next(iter(jobs.values()))


def composed_job(config_name: str, overrides: list[str], composed: dict[tuple[str, ...], DictConfig]) -> DictConfig:
    """compose(config_name, overrides), which takes Hydra 0.2 s; jobs that choose the same in each group share it.

    Args:
        composed: what was composed so far, by the overrides that are no plain values.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    is_group = GlobalHydra.instance().config_loader().get_group_options
    values = [o for o in parsed if o.type == OverrideType.CHANGE and not o.package and not is_group(o.key_or_group)]
    key = tuple(str(o.input_line) for o in parsed if o not in values)
    if key not in composed:
        composed[key] = compose(config_name, overrides)
        return composed[key]
    job = copy.deepcopy(composed[key])
    for override in values:
        OmegaConf.update(job, override.key_or_group, override.value(), merge=True)
    return job


def grid(config: DictConfig) -> Iterator[list[str]]:
    """The overrides of each job of a sweep, as Hydra's basic sweeper takes them from recipe and command line."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task])
    choices: list[list[str]] = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in parsed
    ]
    return (list(job) for job in itertools.product(*choices))


def explained(job: Callable[[], Any], config_name: str) -> None:
    """Run a command's task function; where Hydra refused a key, say which keys there would have been."""
    try:
        job()
    except BaseException as end:
        if Check.sweep is not None:
            Check.sweep.close("FAILED" if isinstance(end, SystemExit) and end.code == 1 else "KILLED")
        elif isinstance(end, SystemExit) and end.code == 1:
            for line in unknown_keys(config_name, sys.argv[1:]):
                print(line, file=sys.stderr)
        raise
    if Check.sweep is not None and not Check.sweep.close():
        sys.exit(1)


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
