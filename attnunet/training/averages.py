"""The moving averages of the weights, which are scored and kept in place of the weights themselves."""

from typing import Any

import keras
import numpy as np


class Averages(keras.callbacks.Callback):
    """Puts the moving averages of the weights into the network at the end of each epoch, if the optimizer has such averages.

    The training goes on from the weights themselves, so `leave` must be called before the next epoch. This callback must be
    the first in the list.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: list[tuple[keras.Variable, np.ndarray]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        weights = self.model.trainable_variables
        self.live = [(variable, np.asarray(variable.value)) for variable in weights]
        self.model.optimizer.finalize_variable_values(weights)  # changes nothing without averages

    def leave(self) -> None:
        """Put the weights themselves back into the network."""
        for variable, value in self.live:
            variable.assign(value)
