"""How a command starts and how it ends when it cannot run: one message, exit code 1, before anything was begun."""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra import initialize_config_dir
from hydra._internal import utils as hydra_utils
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigLoadError, ConfigNode, ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.utils import get_class
from omegaconf import DictConfig, flag_override

from attnunet import config
from attnunet.config import as_typed, check_folder, settle, without_hydra
from attnunet.errors import exit_on_error, explain, first_line
from attnunet.sweeps import composition, terminal
from attnunet.training import runtime

if TYPE_CHECKING:
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
# Hydra prints a traceback and exits where it can; `explained` ends commands.
hydra_utils.run_and_report = lambda func: func()


def open_runs(tracking: DictConfig) -> Store:
    """Return the store of the runs that a command looks back at; TensorFlow is not loaded yet."""
    from attnunet.tracking.store import open_store

    return open_store(Path(tracking.root).resolve(), tracking.uri, tracking.patience)


def load_tensorflow() -> None:
    """Set TensorFlow up as training has it."""

    runtime.configure(0, runtime.available_threads(None), "float32")


class Check(Callback):
    """Hydra's callback: what cannot run ends before Hydra makes a folder and MLflow a run.

    By SystemExit, since any other exception in a callback becomes a warning.
    """

    jobs: ClassVar[tuple[list[list[str]] | None, DictConfig]]
    """What was found of a sweep: see `check_grid`. Of the class, since instances travel to the jobs."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with exit_on_error():
            from attnunet.config.objects import check_run

            runtime.available_threads(None)
            check_run(settle(without_hydra(config), as_typed(config.hydra.overrides.task)))
            check_folder("hydra.run.dir", config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        with exit_on_error():
            from attnunet.sweeps.grid import check_grid

            runtime.available_threads(None)
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
        """`keys` names the pydantic model of the command's configuration, as attnunet.config.schema.Compare."""
        self.keys = keys

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with exit_on_error():
            from attnunet.config.checks import check_keys

            runtime.available_threads(None)
            check_store(check_keys(without_hydra(config), get_class(self.keys))["tracking"])
            check_folder("hydra.run.dir", config.hydra.run.dir)

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
            Begin.sweep = open_sweep(config, *Check.jobs)


def open_sweep(cfg: DictConfig, jobs: list[list[str]] | None, first: DictConfig) -> Sweep:
    """The sweep, whose jobs learn their parent in every launcher, on whatever machine: by an override."""
    from attnunet.tracking.store import open_store
    from attnunet.tracking.sweep import PARENT, Sweep

    store = open_store(Path(first.tracking.root).resolve(), first.tracking.uri, first.tracking.patience)
    overrides, folder = as_typed(cfg.hydra.overrides.task), Path(cfg.hydra.sweep.dir)
    sweep = Sweep(store, first.study, first.monitor, overrides, jobs, folder, terminal.console(160))
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


def run_command(job: Callable[[], Any], config_name: str) -> None:
    """Run a command's task function, which ends by itself where a run fails: what comes here is Hydra's or a plugin's."""
    terminal.escape_unknown_characters()
    with exit_on_error():
        arguments = get_args()
        check_arguments(arguments)
        try:
            job()
        except (KeyboardInterrupt, SystemExit) as end:
            if Begin.sweep is not None:
                stopped = isinstance(end, KeyboardInterrupt) or (isinstance(end.code, int) and end.code > 128)
                Begin.sweep.close("KILLED" if stopped else "FAILED")
            raise
        except Exception as error:
            if Begin.sweep is not None:
                Begin.sweep.abandon()
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            with initialize_config_dir(config.CONF, version_base="1.3"):
                loader = GlobalHydra.instance().config_loader()
                lines = explain_arguments(error, loader, config_name, arguments)
            raise config.ConfigError("\n".join(lines)) from error
        if Begin.sweep is not None and not Begin.sweep.close():
            sys.exit(1)


def check_arguments(arguments: Namespace) -> None:
    """Raises ConfigError where an argument takes away what checks a run, or unpickles one, which runs whatever is in it."""
    if arguments.experimental_rerun is not None:
        raise config.ConfigError("--experimental-rerun: reads a pickle, which runs code; allowed: the run's command again")
    for override in arguments.overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key in ("hydra", "hydra.callbacks") or key.startswith(("hydra.callbacks.check", "hydra.callbacks.sweep")):
            raise config.ConfigError(f"{override}: these check a run; allowed: callbacks beside them, +hydra.callbacks.NAME")


def explain_arguments(error: Exception, loader: ConfigLoader, config_name: str, arguments: Namespace) -> list[str]:
    """Return a line for each argument that Hydra refuses; where it is none by itself, the error's own."""
    from attnunet.sweeps.overrides import explain_refusals

    search = [f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]"] if arguments.config_dir else []
    found = explain_refusals(loader, config_name, search, arguments.overrides, arguments.multirun)
    given = " ".join(override for override in arguments.overrides if "tracking.uri=" not in override)  # it may hold a password
    reason = explain(error) or f"{type(error).__name__}: {first_line(error)} (HYDRA_FULL_ERROR=1 shows where)"
    return found or [f"{given}: {reason}" if given else reason]
