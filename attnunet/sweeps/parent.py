"""The parent run of a sweep. Both sweepers use this module before the first job and after the last job."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, flag_override

from attnunet.config import as_typed
from attnunet.errors import UserError, exit_on_error, explain, first_line
from attnunet.sweeps import terminal
from attnunet.sweeps.commands import open_runs
from attnunet.sweeps.composition import CachingLoader
from attnunet.sweeps.grid import all_overrides, check_grid

if TYPE_CHECKING:
    from attnunet.sweeps.display import Display
    from attnunet.tracking.sweep import Sweep


@contextmanager
def open_sweep(cfg: DictConfig, context: HydraContext, task: TaskFunction) -> Iterator[tuple[Launcher, Display]]:
    """Check a sweep, start its parent run, and yield the launcher of its jobs and the display. Then end the parent run.

    The status of the parent run depends on the jobs. The process exits with code 1 if the sweep cannot run, or if a job has
    no result, and with code 130 after Ctrl-C.

    Args:
        cfg: the configuration of the whole sweep.
        context: the context that Hydra gives to the sweeper.
        task: the function that each job runs.
    """
    with exit_on_error():
        loader = CachingLoader(context.config_loader.get_search_path())
        jobs, first = check_grid(cfg, loader)
        jobs_context = HydraContext(config_loader=loader, callbacks=context.callbacks)
        launcher = Plugins.instance().instantiate_launcher(jobs_context, task, cfg)
        sweep = start_sweep(cfg, jobs, first)
        display = make_display(cfg, sweep)
        try:
            with display.shown(), expect_replaced_workers():
                yield launcher, display
        except (KeyboardInterrupt, SystemExit) as end:
            code = 130 if isinstance(end, KeyboardInterrupt) else end.code
            stopped = isinstance(code, int) and code > 128
            sweep.close("KILLED" if stopped else "FAILED")
            if stopped:
                print("attnunet: the sweep was stopped; the same command goes on with it", file=sys.stderr)
            sys.exit(code)
        except Exception as error:
            sweep.abandon()
            if explain(error):
                raise
            choices = cfg.hydra.runtime.choices
            chosen = f"hydra/sweeper={choices['hydra/sweeper']} hydra/launcher={choices['hydra/launcher']}"
            reason = f"{type(error).__name__}: {first_line(error)} (HYDRA_FULL_ERROR=1 shows where)"
            raise UserError(f"{chosen}: {reason}") from error
        if not sweep.close():
            sys.exit(1)


@contextmanager
def expect_replaced_workers() -> Iterator[None]:
    """Hide joblib's warning that a worker stopped.

    A process that has trained a network holds more memory than before, so joblib replaces it between two jobs. That frees the
    memory and loses nothing. A worker that dies in a job is an error of joblib, not this warning.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
        yield


def start_sweep(cfg: DictConfig, jobs: Sequence[Sequence[str]] | None, first: DictConfig) -> Sweep:
    """Start the parent run of a sweep, and return the sweep.

    An override gives the id of the parent run to each job. This works with every launcher and on every machine. Another
    override keeps the log messages of the jobs off the terminal: the display prints them.

    Args:
        jobs: the overrides of each job; None for a search.
        first: the configuration of the first job.
    """
    from attnunet.tracking.sweep import PARENT, Sweep

    overrides, folder = as_typed(cfg.hydra.overrides.task), Path(cfg.hydra.sweep.dir)
    told = {o.get_key_element().lstrip("+"): o.input_line or "" for o in all_overrides(cfg) if o.is_sweep_override()}
    swept = {key: line.partition("=")[2] for key, line in told.items()}
    store, console = open_runs(first.tracking), terminal.console(160)
    sweep = Sweep(store, first.study, first.monitor, overrides, swept, jobs, folder, console)
    with flag_override(cfg, "readonly", False):
        cfg.hydra.overrides.hydra.append(f"+hydra.job.env_set.{PARENT}='{sweep.run.id}'")
        if "file" in (cfg.hydra.job_logging.get("handlers") or ()):
            cfg.hydra.overrides.hydra.append("hydra.job_logging.root.handlers=[file]")
    return sweep


def make_display(cfg: DictConfig, sweep: Sweep) -> Display:
    from attnunet.sweeps.display import Display

    display = Display(sweep.console, sweep.folder, f"{cfg.hydra.job.name}.log", sweep.monitor, sweep.swept)
    if sweep.jobs:
        display.expect(sweep.jobs)
    return display
