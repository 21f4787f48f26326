"""The Optuna search, which resumes after an interruption."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.trial import TrialState

from attnunet.errors import UserError
from attnunet.sweeps.grid import parse_overrides, values
from attnunet.sweeps.pruning import JOB, silence

if TYPE_CHECKING:
    from hydra_plugins.attnunet_optuna import OptunaSweeper


def search(sweeper: OptunaSweeper, overrides: Sequence[str]) -> None:
    """Run the remaining trials of the study, the interrupted ones first; then print the best trial.

    A trial without a value is marked FAIL, and the search goes on. A job that is pruned marks its own trial PRUNED; see
    `pruning`. If another process runs the study, wait until it ends.
    """
    say = sweeper.display.console.print
    root = Path(sweeper.config.tracking.root).resolve()
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f".{quote(sweeper.study_name, safe='')}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"Waiting: another process runs study {sweeper.study_name}")
        lock.acquire()
    try:
        study = open_study(sweeper, root / "optuna.db")
        run_trials(sweeper, study, parse_overrides(overrides))
    finally:
        lock.release()
    if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        best = study.best_trial
        say(f"Best of study {study.study_name}: trial {best.number}, {sweeper.config.monitor} {best.value:.4f}")


def open_study(sweeper: OptunaSweeper, database: Path) -> optuna.Study:
    """Return the study. If a dead process left unfinished trials in it, mark these trials FAIL and queue them again.

    Raises:
        UserError: the database has a fault.
    """
    from attnunet.tracking.sqlite import address, explain_fault

    silence()
    try:
        study = optuna.create_study(
            study_name=sweeper.study_name,
            storage=sweeper.storage or address(database),
            pruner=sweeper.pruner,
            direction="minimize" if sweeper.config.monitor.endswith("loss") else "maximize",
            load_if_exists=True,
        )
    except Exception as error:
        told = None if sweeper.storage else explain_fault(database, error)
        if told is None:
            raise
        raise UserError(told) from error
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    # The seed depends on the number of trials. Otherwise the sampler would draw its first points again after a resume.
    study.sampler = sweeper.sampler(seed=sweeper.seed + len(study.trials))
    return study


def run_trials(sweeper: OptunaSweeper, study: optuna.Study, overrides: Sequence[Override]) -> None:
    space = {o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()}
    check_space(study, space)
    fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
    done = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
    missing = max(0, sweeper.n_trials - done)
    sweeper.display.total = missing
    sweeper.display.console.print(f"Study {study.study_name}: {done} trials finished, {missing} to go")
    for first in range(0, missing, sweeper.n_jobs):
        trials = [study.ask(space) for _ in range(min(sweeper.n_jobs, missing - first))]
        for number, trial in enumerate(trials, first):
            trial.set_user_attr(JOB, number)
        jobs = [[*fixed, *(f"{key}={value}" for key, value in trial.params.items())] for trial in trials]
        for trial, job in zip(trials, sweeper.launcher.launch(jobs, initial_job_idx=first), strict=True):
            value = job.return_value
            if math.isnan(value):
                study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)  # a pruned trial is finished
            else:
                study.tell(trial, value)


def check_space(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> None:
    """Raise UserError if the study has tried a key over another range, because its earlier trials do not fit the new range."""
    for trial in study.get_trials(deepcopy=False):
        for key in trial.distributions.keys() & space.keys():
            try:
                check_distribution_compatibility(trial.distributions[key], space[key])
            except ValueError as error:
                raise UserError(
                    f"{key}: study {study.study_name} searches {trial.distributions[key]}, which cannot become {space[key]}; "
                    "give the range of the study, or another hydra.sweeper.study_name"
                ) from error


def distribution(override: Override) -> BaseDistribution:
    """Return Optuna's distribution for a swept override: numeric for an interval or an ordered range, else categorical."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return numeric_distribution(sweep.start, sweep.end, log="log" in sweep.tags)
    if isinstance(sweep, RangeSweep) and not sweep.shuffle:
        numbers = list(sweep.range())
        return numeric_distribution(min(numbers), max(numbers), step=abs(sweep.step))
    return CategoricalDistribution([value.partition("=")[2] for value in values(override)])


def numeric_distribution(low: Any, high: Any, **options: Any) -> BaseDistribution:
    """Return a distribution of integers if both ends are integers, else of floats."""
    whole = isinstance(low, int) and isinstance(high, int)
    return (IntDistribution if whole else FloatDistribution)(low, high, **options)
