"""The sweeper of `hydra/sweeper=optuna`. Hydra looks for plugins only in this namespace, and imports them at every start."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class OptunaSweeperConf:
    """The types of the keys. Hydra's own plugins store their types in the same way.

    The values are in conf/hydra/sweeper/optuna.yaml.
    """

    study_name: str
    storage: str | None
    n_trials: int
    n_jobs: int
    seed: int
    sampler: Any
    params: dict[str, str]
    pruner: Any = None
    _target_: str = f"{__name__}.OptunaSweeper"


ConfigStore.instance().store(group="hydra/sweeper/types", name="optuna", node=OptunaSweeperConf, provider="attnunet")

if find_spec("optuna"):  # Optuna is an extra; without it, this sweeper does not exist

    class OptunaSweeper(Sweeper):
        """A sweeper that asks Optuna for trials, runs them with a launcher, and resumes an interrupted study.

        Hydra's own plugin for Optuna needs an Optuna below version 3, which needs an SQLAlchemy below version 2. MLflow's
        server does not start with this SQLAlchemy.
        """

        config: DictConfig
        launcher: Launcher
        display: Any

        def __init__(
            self,
            study_name: str,
            storage: str | None,
            n_trials: int,
            n_jobs: int,
            sampler: Callable[..., Any],
            seed: int,
            params: dict[str, str],
            pruner: Any = None,
        ) -> None:
            """
            Args:
                storage: the SQLAlchemy address of the studies; None for optuna.db below tracking.root.
                n_trials: the number of finished trials at which the search ends.
                n_jobs: the number of trials that run at once.
                sampler: a function that makes one of Optuna's samplers from a `seed`.
                params: overrides that define the search space; the command line wins over them.
                pruner: one of Optuna's pruners, which ends bad trials early; None lets each trial train to its end.
            """
            self.study_name, self.storage, self.n_trials, self.n_jobs = study_name, storage, n_trials, n_jobs
            self.sampler, self.seed, self.params, self.pruner = sampler, seed, params, pruner

        def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
            self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

        def sweep(self, arguments: list[str]) -> None:
            from attnunet.sweeps.parent import open_sweep
            from attnunet.sweeps.search import search

            with open_sweep(self.config, self.hydra_context, self.task_function) as (self.launcher, self.display):
                search(self, [*(f"{key}={value}" for key, value in self.params.items()), *arguments])
