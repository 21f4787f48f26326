"""An Optuna search that goes on where it was interrupted: what Hydra's plugin for Optuna leaves out."""

import logging
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from filelock import FileLock, Timeout
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override

from attnunet.commands import stop_on_error
from attnunet.config import ConfigError

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)


class Search(Callback):
    """Hydra's callback beside the plugin, which would run `n_trials` more at each start, leave the trials of a killed
    start RUNNING for ever, draw the sampler's first points again, and end at a job that returns NaN."""

    lock: ClassVar[FileLock]  # of the class, since instances travel to the jobs

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        stop_on_error(lambda: resume(config))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        # A trial without a value is FAIL to the plugin.
        if job_return.status == JobStatus.COMPLETED and math.isnan(job_return.return_value):
            job_return.return_value = None

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        study = opened(config)
        best = study.best_trial
        log.info(f"Best of study {study.study_name}: trial {best.number}, {config.monitor} {best.value:.4f}")


def resume(config: DictConfig) -> None:
    """Leave to the plugin only the trials that the study lacks, those first that were under way.

    Raises:
        ConfigError: another process runs the study; `monitor` and the direction of the search do not agree.
    """
    sweeper, root = config.hydra.sweeper, Path(config.tracking.root)
    wanted = "minimize" if config.monitor.endswith("loss") else "maximize"
    if sweeper.direction != wanted:
        raise ConfigError(f"hydra.sweeper.direction={sweeper.direction}: monitor={config.monitor} asks for {wanted}")

    root.mkdir(parents=True, exist_ok=True)
    Search.lock = FileLock(root / f".{quote(sweeper.study_name, safe='')}.lock")
    try:
        Search.lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"study={sweeper.study_name}: another process is at this search") from error

    from optuna.trial import TrialState

    study = opened(config)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        with warnings.catch_warnings(action="ignore"):  # enqueue_trial is experimental in optuna 2
            study.enqueue_trial(trial.params)
    done = len(study.get_trials(states=(TrialState.COMPLETE,)))
    with flag_override(sweeper, "readonly", False):
        sweeper.n_trials = max(0, sweeper.n_trials - done)
        if "seed" in sweeper.sampler:
            sweeper.sampler.seed += len(study.trials)
    log.info(f"Study {study.study_name}: {done} trials finished, {sweeper.n_trials} to go")
    Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # the plugin writes there, even if no trial is left


def opened(config: DictConfig) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    sweeper = config.hydra.sweeper
    return optuna.create_study(
        study_name=sweeper.study_name, storage=sweeper.storage, direction=sweeper.direction, load_if_exists=True
    )
