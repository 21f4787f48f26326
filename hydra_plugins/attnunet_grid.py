"""The sweeper of `hydra/sweeper=grid`. Hydra takes plugins from this namespace only, and imports each at every start."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(BasicSweeper):
    """Hydra's own grid sweeper, with a check of all jobs before the first one starts, and one parent run."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: `open_sweep` has composed every job."""

    def sweep(self, arguments: list[str]) -> Any:
        from attnunet.sweeps.parent import open_sweep

        with open_sweep(self.config, self.hydra_context, self.task_function) as self.launcher:
            return super().sweep(arguments)
