"""What the rest of a training depends on, kept on disk after each epoch."""

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
    """All that training changes: weights, random states of dropout, the optimizer's, which must be built."""
    return [*network.variables, *network.optimizer.variables]


class State:
    """Files that are written whole or not at all: weights, optimizer, random states of dropout, and the epochs' metrics.

    The order of samples and the augmentation need no state, they are functions of (seed, step); the best epoch and early
    stopping follow from the metrics. The state of the epoch before stays beside the last one, in case that is damaged.
    """

    def __init__(self, path: Path, network: keras.Model) -> None:
        self.path, self.network = path, network
        self.before = path.with_name(f"{path.stem}-before{path.suffix}")

    def save(self, history: History, best: Path) -> None:
        """`best` is the file beside it, of the best epoch's weights, without which the state is of no use."""
        values: dict[str, Any] = {
            f"{place}": np.asarray(variable.value) for place, variable in enumerate(variables(self.network))
        }
        with replacing(self.path) as temporary:
            np.savez(temporary, history=np.array(json.dumps(history)), best=np.array(best.name), **values)
            if self.path.exists():
                os.replace(self.path, self.before)

    def load(self) -> History:
        """Give the network its state back; -> the metrics of the epochs that it has gone through, none without a file.

        A file that cannot be read is set aside; the one before it holds then, or else the network stays as it is.
        """
        for path in (self.path, self.before):
            if not path.exists():
                continue
            try:
                values, history = self.read(path)
            except Exception as error:  # there is no end to what NumPy, zipfile and json say of a damaged file
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
        """The values of the variables and the metrics.

        Raises:
            Exception: the file, or the one of the best weights, is damaged, or belongs to another network.
        """
        expected = [np.asarray(variable.value) for variable in variables(self.network)]
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            values = [stored[f"{place}"] for place in range(len(expected))]
            history, best = json.loads(str(stored["history"])), str(stored["best"])
        for value, now in zip(values, expected, strict=True):
            if (value.dtype, value.shape) != (now.dtype, now.shape):
                raise ValueError(f"it holds {value.dtype} {value.shape} in place of {now.dtype} {now.shape}")
        read_weights(path.with_name(best))
        return values, history


def read_weights(path: Path) -> list[np.ndarray]:
    """Return a network's weights, as `np.savez(path, *network.get_weights())` wrote them."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        return [stored[f"arr_{place}"] for place in range(len(stored.files))]
