"""What the rest of a training depends on, kept on disk after each epoch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from attnunet.data.files import replacing

History = list[dict[str, float]]


def variables(network: keras.Model) -> Sequence[keras.Variable]:
    """All that training changes: weights, random states of dropout, the optimizer's, which must be built."""
    return [*network.variables, *network.optimizer.variables]


class State:
    """One file that is written whole or not at all: weights, optimizer, random states of dropout, and the epochs' metrics.

    The order of samples and the augmentation need no state, they are functions of (seed, step); the best epoch and early
    stopping follow from the metrics.
    """

    def __init__(self, path: Path, network: keras.Model) -> None:
        self.path, self.network = path, network

    def save(self, history: History) -> None:
        values: dict[str, Any] = {
            f"{place}": np.asarray(variable.value) for place, variable in enumerate(variables(self.network))
        }
        with replacing(self.path) as temporary:
            np.savez(temporary, history=np.array(json.dumps(history)), **values)

    def load(self) -> History:
        """Give the network its state back; -> the metrics of the epochs that it has gone through, none without a file."""
        if not self.path.exists():
            return []
        with np.load(self.path) as stored:
            for place, variable in enumerate(variables(self.network)):
                variable.assign(stored[f"{place}"])
            return json.loads(str(stored["history"]))
