"""The Optuna search, which resumes after an interruption."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.trial import TrialState

from attnunet.config import group_choices, targets, without_hydra
from attnunet.config.fingerprints import NO_EFFECT
from attnunet.errors import UserError
from attnunet.sweeps.grid import parse_overrides, values
from attnunet.sweeps.pruning import JOB, silence
from attnunet.tracking.labels import flatten

if TYPE_CHECKING:
    from hydra_plugins.attnunet_optuna import OptunaSweeper


SETTINGS = "settings"
"""The attribute of a study of Optuna that holds what all its trials share; see `fixed_settings`."""


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
    check_settings(study, fixed_settings(sweeper.config, space), space)
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


def fixed_settings(config: DictConfig, searched: Iterable[str]) -> dict[str, str]:
    """Return the settings that all trials share and that can change their value, under the keys of the command line."""
    plain: Any = OmegaConf.to_container(without_hydra(config), resolve=False)
    choices = group_choices(OmegaConf.select(config, "hydra.runtime.choices") or {})
    found = {**choices, **flatten(plain), "_target_": " ".join(targets.find_targets(plain))}
    left_out = (*NO_EFFECT, "trainer.threads", "evaluation.resamples", *searched)
    places = {name: Path(value).resolve() for name in ("data.root", "data.file") if (value := found.get(name))}
    return {name: str(value) for name, value in (found | places).items() if not targets.is_within(name, left_out)}


def check_settings(study: optuna.Study, settings: Mapping[str, str], searched: Collection[str]) -> None:
    """Raise UserError if the study was made with other settings, because the values of its trials would not compare.

    A study without a finished trial, and one of an earlier version, gets these settings. A key that only one of the two knows
    is compared if the other one searches it.
    """
    before = study.user_attrs.get(SETTINGS)
    if before is None or not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        study.set_user_attr(SETTINGS, dict(settings))
        return
    tried = {key for trial in study.get_trials(deepcopy=False) for key in trial.distributions} | set(searched)
    compared = [name for name in dict.fromkeys([*settings, *before]) if name in tried or (name in settings and name in before)]
    if changed := [name for name in compared if settings.get(name) != before.get(name)]:
        now, then = (
            f"{changed[0]}={found[changed[0]]}" if changed[0] in found else "a search" for found in (settings, before)
        )
        others = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UserError(
            f"{changed[0]}: study {study.study_name} has {then}, which cannot become {now}{others}; "
            "give the setting of the study, or another hydra.sweeper.study_name"
        )


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
