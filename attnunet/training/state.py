"""The state of a training on disk. It holds everything that the remaining epochs need."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from attnunet.data.files import replacing
from attnunet.errors import first_line

log = logging.getLogger(__name__)

History = list[dict[str, float]]


def variables(network: keras.Model) -> Sequence[keras.Variable]:
    """Return all variables that training changes: weights, random states of dropout, and variables of a built optimizer."""
    return [*network.variables, *network.optimizer.variables]


class State:
    """Stores the weights, the optimizer, the random states of dropout, and the metrics of each epoch.

    A file is written either completely or not at all. The order of samples and the augmentation are functions of (seed, step)
    and need no state. The best epoch and early stopping follow from the metrics. The state of the previous epoch is kept too,
    in case the last state is damaged.
    """

    def __init__(self, path: Path, network: keras.Model) -> None:
        self.path, self.network = path, network
        self.before = path.with_name(f"{path.stem}-before{path.suffix}")

    def save(self, history: History, kept: Sequence[Path]) -> None:
        """Write the state. It refers to `kept`, the files of the weights that are kept, which must lie in the same folder."""
        values: dict[str, Any] = {
            f"{place}": np.asarray(variable.value) for place, variable in enumerate(variables(self.network))
        }
        with replacing(self.path) as temporary:
            np.savez(temporary, history=np.array(json.dumps(history)), best=np.array([file.name for file in kept]), **values)
            if self.path.exists():
                os.replace(self.path, self.before)

    def load(self) -> History:
        """Restore the network, and return the metrics of the epochs for which it has been trained.

        If the last state cannot be read, its file is renamed, and the previous state is restored. Without a readable file,
        the network stays unchanged, and the list of metrics is empty.
        """
        for path in (self.path, self.before):
            if not path.exists():
                continue
            try:
                values, history = self.read(path)
            except Exception as error:  # NumPy, zipfile and json raise many kinds of errors for a damaged file
                aside = path.with_name(f"damaged-{path.name}")
                os.replace(path, aside)
                what = "it is set aside, and the run begins at the state before it, or else anew"
                log.warning("%s cannot be read (%s): %s", path, first_line(error), what)
                continue
            for variable, value in zip(variables(self.network), values, strict=True):
                variable.assign(value)
            return history
        return []

    def read(self, path: Path) -> tuple[list[np.ndarray], History]:
        """Return the values of the variables, and the metrics.

        Raises:
            Exception: the state does not fit the network, or the file of the state or of the kept weights is damaged.
        """
        expected = [np.asarray(variable.value) for variable in variables(self.network)]
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            values = [stored[f"{place}"] for place in range(len(expected))]
            history, kept = json.loads(str(stored["history"])), stored["best"].tolist()
        for value, now in zip(values, expected, strict=True):
            if (value.dtype, value.shape) != (now.dtype, now.shape):
                raise ValueError(f"it holds {value.dtype} {value.shape} in place of {now.dtype} {now.shape}")
        for name in kept:
            read_weights(path.with_name(name))
        return values, history


def read_mean_weights(paths: Sequence[Path]) -> list[np.ndarray]:
    """Return the mean of a network's weights over several files. The mean over one file has the bits of that file.

    The sum is float64. The statistics of batch normalisation are averaged, too. See Izmailov et al. 2018, arXiv 1803.05407.
    """
    first, *others = (read_weights(path) for path in paths)
    totals = [weight.astype(np.float64) for weight in first]
    for weights in others:
        totals = [total + weight for total, weight in zip(totals, weights, strict=True)]
    return [(total / len(paths)).astype(weight.dtype) for total, weight in zip(totals, first, strict=True)]


def read_weights(path: Path) -> list[np.ndarray]:
    """Return a network's weights from a file that `np.savez(path, *network.get_weights())` wrote."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        return [stored[f"arr_{place}"] for place in range(len(stored.files))]
