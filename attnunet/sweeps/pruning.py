"""The pruning of a job in an Optuna search."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.trial import TrialState

JOB = "job"
"""The attribute of a trial that holds the number of its job in the sweep."""


def silence() -> None:
    """Keep the messages of Optuna and of its database below a warning off the terminal."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def follow(sweeper: DictConfig, root: Path, job: int) -> Callable[[int, float], None]:
    """Return a function that reports an epoch (counted from 1) and its value of `monitor` to the trial of a job.

    If the pruner ends the trial, the function marks the trial PRUNED and raises `Pruned`. It reads and writes the database of
    the study, so a job in another process can call it too.

    Args:
        sweeper: the configuration hydra.sweeper, whose pruner is not None.
        root: the folder tracking.root.
        job: the number of the job in the sweep. Only one trial that runs has this number, because a search first ends the
            trials that an earlier process left running.
    """
    from attnunet.tracking.run import Pruned
    from attnunet.tracking.sqlite import address

    silence()
    storage = sweeper.storage or address(root.resolve() / "optuna.db")
    study = optuna.load_study(study_name=sweeper.study_name, storage=storage, pruner=instantiate(sweeper.pruner))
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    (number,) = (trial._trial_id for trial in running if trial.user_attrs[JOB] == job)
    trial = optuna.trial.Trial(study, number)

    def report(epoch: int, value: float) -> None:
        trial.report(value, epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            raise Pruned(epoch)

    return report
