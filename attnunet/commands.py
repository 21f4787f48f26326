"""How a command starts and how it ends when it cannot run: one message, exit code 1, before anything was begun."""

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnunet import config


def stop_on_error(ready: Callable[[], Any]) -> Any:
    """ready(), or one message on stderr and exit code 1 where the configuration or the data are at fault."""
    from attnunet.data.slices import DataError

    try:
        return ready()
    except (config.ConfigError, DataError) as error:
        sys.exit(f"\nattnunet: this cannot run.\n{error}")


class Check(Callback):
    """Hydra's callback: nothing is made, no folder even, for a run or a sweep that cannot run.

    Ends the process with exit code 1; an exception other than SystemExit would become a warning.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        stop_on_error(lambda: ready(own))

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **_: Any) -> None:
        stop_on_error(lambda: check_grid(config, str(config_name)))


def ready(cfg: DictConfig) -> None:
    """Everything that can be wrong before TensorFlow is imported: keys and values, files, split, augmentation."""
    config.check(cfg)
    config.data_and_split(cfg)
    config.make(cfg.augment)()


def check_grid(cfg: DictConfig, config_name: str) -> None:
    """Every job's keys and values first; then, once for all jobs that share them, data, split and augmentation."""
    jobs = {}
    for overrides in grid(cfg):
        try:
            job = compose(config_name, overrides)
            config.check(job)
        except (HydraException, OmegaConfBaseException, config.ConfigError) as error:
            raise config.ConfigError(f"job {' '.join(overrides)}\n{error}") from error
        jobs[str((job.data, job.split, job.augment, job.image_size, job.batch_size))] = job
    for job in jobs.values():
        ready(job)


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
    """Run a command's task function; where Hydra refused the command line, say which keys there would have been."""
    try:
        job()
    except SystemExit as end:
        if end.code == 1:
            explain(config_name, sys.argv[1:])
        raise


def explain(config_name: str, arguments: list[str]) -> None:
    """After Hydra refused the command line: for each key that does not exist, the keys that do, on stderr."""
    with initialize_config_dir(config.CONF, version_base="1.3"):
        defaults = compose(config_name)
    for override in OverridesParser.create().parse_overrides([a for a in arguments if "=" in a and a[0] not in "-+~"]):
        *parents, name = override.key_or_group.split(".")
        parent = OmegaConf.select(defaults, ".".join(parents)) if parents else defaults
        if isinstance(parent, DictConfig) and name not in parent and "/" not in name:
            keys = sorted(str(key) for key in parent)
            print(f"{override.input_line}: no such key; allowed: {', '.join(keys)}", file=sys.stderr)
