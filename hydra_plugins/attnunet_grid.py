"""The sweeper of `hydra/sweeper=grid`. Hydra looks for plugins only in this namespace, and imports them at every start."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(BasicSweeper):
    """Hydra's own grid sweeper. It also checks all jobs before the first job starts, and makes one parent run."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing, because `open_sweep` has already composed every job."""

    def sweep(self, arguments: list[str]) -> Any:
        from attnunet.sweeps.parent import open_sweep

        with open_sweep(self.config, self.hydra_context, self.task_function) as (self.launcher, _):
            return super().sweep(arguments)
