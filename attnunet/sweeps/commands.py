"""The start of every command. A command that cannot run ends with one message and exit code 1, before it writes anything."""

from __future__ import annotations

import logging
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig

from attnunet import config
from attnunet.config import as_typed, check_folder, is_folder, settle, without_hydra
from attnunet.errors import exit_on_error, explain, first_line
from attnunet.sweeps import terminal
from attnunet.sweeps.composition import open_loader
from attnunet.sweeps.help import describe_command
from attnunet.sweeps.overrides import explain_refusals
from attnunet.sweeps.plugins import check_plugins, store_launchers
from attnunet.training import runtime

if TYPE_CHECKING:
    from attnunet.tracking.models import Model
    from attnunet.tracking.records import Record
    from attnunet.tracking.store import Store


def run_command(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Start a command: let Hydra compose its configuration from conf/ and the command line, and call `task` with it.

    If a run fails, `task` itself ends the process.
    """
    logging.raiseExceptions = False  # else each log line prints a traceback if the disk of the log file is full
    terminal.escape_unknown_characters()
    with exit_on_error():
        arguments = get_args()
        check_arguments(arguments)
        name = arguments.config_name or config_name
        if arguments.help and not (arguments.overrides or arguments.config_name):
            print(describe_command(name, arguments.config_dir))  # without the second that Hydra takes
            return
        command = hydra.main(version_base="1.3", config_path=config.CONF, config_name=config_name)(task)
        store_launchers()
        loader = open_loader(arguments.config_dir)
        sweep = arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides
        try:
            if not arguments.shell_completion:
                # Compose once before Hydra starts, because Hydra prints some errors as tracebacks, and exits.
                loader.load_configuration(name, arguments.overrides, RunMode.MULTIRUN if sweep else RunMode.RUN)
            if arguments.help:
                print(describe_command(name, arguments.config_dir, arguments.overrides))
            else:
                command()
        except Exception as error:
            raise config.ConfigError("\n".join(explain_arguments(error, loader, name, arguments.overrides, sweep))) from error


def check_arguments(arguments: Namespace) -> None:
    """Raise ConfigError if an argument turns off the checks of a run, or loads a pickle, which can run any code."""
    if arguments.experimental_rerun is not None:
        raise config.ConfigError(
            "--experimental-rerun: loads a pickle, which can run any code; allowed: the command of the run"
        )
    if arguments.config_path is not None:
        raise config.ConfigError(
            f"--config-path={arguments.config_path}: takes away attnunet's configuration and its checks; "
            "allowed: --config-dir FOLDER, which adds to the configuration"
        )
    if arguments.config_dir is not None and not Path(arguments.config_dir).is_dir():
        raise config.ConfigError(
            f"--config-dir={arguments.config_dir}: no such folder; allowed: a folder with groups of your own"
        )
    for override in arguments.overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key in ("hydra", "hydra.callbacks") or key.startswith("hydra.callbacks.check"):
            raise config.ConfigError(
                f"{override}: turns off the checks of a run; allowed: other callbacks, +hydra.callbacks.NAME"
            )


def explain_arguments(error: Exception, loader: ConfigLoader, name: str, overrides: Sequence[str], sweep: bool) -> list[str]:
    """Return a line for each override that Hydra refuses. If it refuses only their combination, return a line with the error.

    Args:
        name: the name of the configuration, such as train.
        sweep: whether a key may have several values.
    """
    given = " ".join(override for override in overrides if "tracking.uri=" not in override)  # it may hold a password
    reason = explain(error) or f"{type(error).__name__}: {first_line(error)} (HYDRA_FULL_ERROR=1 shows where)"
    return explain_refusals(loader, name, [], overrides, sweep) or [f"{given}: {reason}" if given else reason]


class Check(Callback):
    """Hydra's callback for training. It ends a command that cannot run, before Hydra makes a folder and MLflow makes a run.

    The callback raises SystemExit, because Hydra turns any other exception of a callback into a warning.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with exit_on_error():
            from attnunet.config.objects import check_run

            runtime.available_threads(None)
            check_run(settle(without_hydra(config), as_typed(config.hydra.overrides.task)))
            check_folder("hydra.run.dir", config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the launcher and the sweeper; `open_sweep` checks the jobs."""
        with exit_on_error():
            runtime.available_threads(None)
            check_plugins(config)


class CheckKeys(Callback):
    """Hydra's callback for the other commands.

    It ends a command that has a wrong key, or that needs runs and starts in a folder without runs. The command then writes
    nothing.
    """

    def __init__(self, keys: str) -> None:
        """`keys` names the pydantic model of the command's configuration, such as attnunet.config.schema.Compare."""
        self.keys = keys

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with exit_on_error():
            from attnunet.config.checks import check_keys

            runtime.available_threads(None)
            plain = check_keys(without_hydra(config), get_class(self.keys))
            run = plain.get("run")
            if not is_folder(run) and (run or not plain.get("data")):  # neither a model's folder nor a data set needs runs
                check_store(plain["tracking"])
                check_ids(run)
            check_folder("hydra.run.dir", config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        sys.exit("attnunet: -m: only attnunet.train has sweeps; allowed: this command without -m")


def check_stored(run: Any) -> None:
    """Raise ConfigError if the key `run` of a command that needs a run of a store names a folder."""
    if is_folder(run):
        raise config.ConfigError(
            f"run={run}: is a folder; allowed here: a run of a store, by its id, its first digits or models:/NAME@ALIAS"
        )


def check_ids(run: str | Sequence[str] | None) -> None:
    """Raise ConfigError if a word in the key `run` cannot begin the id of a run. Opening the store takes two seconds more."""
    for name in [run] if isinstance(run, str) else run or ():
        if re.fullmatch(r"[^/:.]+", name) and not re.fullmatch("[0-9a-f]{1,32}", name):
            raise config.ConfigError(
                f"run={name}: no run with such an id, which has 32 digits from 0 to f; allowed: the id of a run or its first "
                "digits; python -m attnunet.store ls lists the runs"
            )


def check_store(tracking: dict[str, Any]) -> None:
    """Raise ConfigError if the folder of a local store has no database."""
    database = Path(tracking["root"]).resolve() / "mlflow.db"
    if tracking["uri"] is None and not database.exists():
        raise config.ConfigError(
            f"tracking.root={tracking['root']}: no runs there ({database} does not exist); start the command in the "
            "folder where the runs were made, or set tracking.root to their mlruns"
        )


class Forget(Callback):
    """Hydra's callback that drops the configuration of a finished job and keeps only what the job returned.

    Each configuration has 1,600 objects, which every later garbage collection would visit.
    """

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None


class Environment(Callback):
    """Hydra's callback that sets environment variables for a sweep and its jobs; a variable that is already set stays."""

    def __init__(self, **variables: str) -> None:
        self.variables = variables

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)


def open_runs(tracking: DictConfig, patience: float = 0) -> Store:
    """Return the store that a command reads, without loading TensorFlow.

    `patience` is the number of seconds to wait for a server that does not answer. At the start of a command, nothing is lost
    yet, so a user need not wait.

    Raises:
        Away: the server does not answer, or refuses this user.
    """
    from attnunet.tracking.store import open_store

    store = open_store(Path(tracking.root).resolve(), tracking.uri, tracking.patience)
    store.connect(patience)
    return store


def open_checkpoint(cfg: DictConfig) -> Record:
    """Return the one run that the key `run` names, and load TensorFlow. Raise an error if it keeps no best checkpoint."""
    from attnunet.tracking.records import find_checkpoint

    check_stored(cfg.run)
    record = find_checkpoint(open_runs(cfg.tracking), cfg.run)
    runtime.load_tensorflow()
    return record


def find_model(cfg: DictConfig) -> Model:
    """Return the model that the key `run` names, checked, without loading TensorFlow; see FORMS in tracking/models.py."""
    from attnunet.tracking import models

    run = plain_run(cfg)
    return models.find_model(None if is_folder(run) else open_runs(cfg.tracking), run)


def plain_run(cfg: DictConfig) -> str | list[str]:
    """Return the value of the key `run`: a text, or a list of texts."""
    return cfg.run if isinstance(cfg.run, str) else [*cfg.run]
