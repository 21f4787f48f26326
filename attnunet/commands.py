"""How a command starts and how it ends when it cannot run: one message, exit code 1, before anything was begun."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigLoadError, ConfigNode, ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, flag_override

from attnunet import composition, config
from attnunet.config import check_keys, own, ready
from attnunet.errors import exit_on_error
from attnunet.training import runtime

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.tracking.store import Store
    from attnunet.tracking.sweep import Sweep

logging.raiseExceptions = False  # a log file on a full disk would print a traceback for each line
# For each group that --help lists, Hydra copies the store of its own configurations, 0.3 s in all. The store is a
# singleton that hands out copies of what it holds, so the same one will do.
ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
# Before the first job a sweeper composes every job, to see that it can; `check_grid` has done so.
Sweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]
ConfigLoaderImpl.load_sweep_config = composition.job  # type: ignore[assignment, method-assign]

stored = ConfigStore.load


def load(self: ConfigStore, config_path: str) -> ConfigNode:
    """Not what lies in conf/: Hydra would merge our launchers and sweepers into those that plugins store by that name."""
    if Path(config.CONF, config_path).is_file():
        raise ConfigLoadError(config_path)
    return stored(self, config_path)


ConfigStore.load = load  # type: ignore[method-assign]


def ready_to_predict(tracking: DictConfig) -> tuple[Store, Console]:
    """The store to look back at, and the terminal; TensorFlow is set up as training has it."""
    from rich.console import Console

    from attnunet.tracking.store import open_store

    runtime.configure(0, runtime.available(None), "float32")
    return open_store(Path(tracking.root).resolve(), tracking.uri, tracking.patience), Console()


class Check(Callback):
    """Hydra's callback: what cannot run ends before Hydra makes a folder and MLflow a run.

    By SystemExit, since any other exception in a callback becomes a warning.
    """

    jobs: ClassVar[tuple[list[list[str]] | None, DictConfig]]
    """What was found of a sweep: see `check_grid`. Of the class, since instances travel to the jobs."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with exit_on_error():
            runtime.available(None)
            ready(own(config))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        from attnunet.grid import check_grid

        with exit_on_error():
            runtime.available(None)
            Check.jobs = check_grid(config)


class Forget(Callback):
    """Hydra's callback: of a job that has ended only what it returned is kept.

    Hydra would keep its configuration too, 1,600 objects a job, which each later collection of garbage goes through.
    """

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None


class CheckKeys(Callback):
    """Hydra's callback of the commands beside train: what their keys cannot be, or a folder without runs, ends before
    anything is written."""

    def __init__(self, keys: str) -> None:
        """`keys` names the pydantic model of the command's configuration, as attnunet.schema.Compare."""
        self.keys = keys

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with exit_on_error():
            runtime.available(None)
            check_store(check_keys(own(config), get_class(self.keys))["tracking"])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        sys.exit("attnunet: -m: only attnunet.train has sweeps; give this command lists")


def check_store(tracking: dict[str, Any]) -> None:
    """Raises ConfigError where there are no runs to look back at."""
    database = Path(tracking["root"]).resolve() / "mlflow.db"
    if tracking["uri"] is None and not database.exists():
        raise config.ConfigError(
            f"tracking.root={tracking['root']}: no runs there ({database} does not exist); start the command in the "
            "folder where they were made, or name their mlruns"
        )


class Begin(Callback):
    """Hydra's callback after those that check: the sweep's parent run."""

    sweep: ClassVar[Sweep | None] = None
    """The sweep that is under way in this process."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        with exit_on_error():
            Begin.sweep = begun(config, *Check.jobs)


def begun(cfg: DictConfig, jobs: list[list[str]] | None, first: DictConfig) -> Sweep:
    """The sweep, whose jobs learn their parent in every launcher, on whatever machine: by an override."""
    from attnunet.tracking.store import open_store
    from attnunet.tracking.sweep import PARENT, Sweep

    store = open_store(Path(first.tracking.root).resolve(), first.tracking.uri, first.tracking.patience)
    sweep = Sweep(store, first.study, first.monitor, list(cfg.hydra.overrides.task), jobs, Path(cfg.hydra.sweep.dir))
    with flag_override(cfg, "readonly", False):
        cfg.hydra.overrides.hydra.append(f"+hydra.job.env_set.{PARENT}='{sweep.run.id}'")
    return sweep


class Environment(Callback):
    """Hydra's callback: environment variables of a sweep and of what its launcher starts; those that are set stay."""

    def __init__(self, **variables: str) -> None:
        self.variables = variables

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)


def explained(job: Callable[[], Any], config_name: str) -> None:
    """Run a command's task function; where Hydra refused a key, say which keys there would have been."""
    try:
        job()
    except (KeyboardInterrupt, SystemExit) as end:
        if Begin.sweep is not None:
            stopped = isinstance(end, KeyboardInterrupt) or (isinstance(end.code, int) and end.code > 128)
            Begin.sweep.close("KILLED" if stopped else "FAILED")
        elif isinstance(end, SystemExit) and end.code == 1:
            for line in unknown_keys(config_name, sys.argv[1:]):
                print(line, file=sys.stderr)
        raise
    if Begin.sweep is not None and not Begin.sweep.close():
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
        keys = {str(key) for key in parent} if isinstance(parent, DictConfig) else {name}  # `in` overlooks mandatory ones
        if override not in choices and name not in keys:
            shown = ", ".join(sorted(key for key in keys if not key.startswith("_")))
            yield f"{override.input_line}: no such key; allowed: {shown}"
