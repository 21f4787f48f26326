"""The weights of the attention gates on a slice."""

import keras
import numpy as np

from attnunet.data.frames import Frame, resize


def read_gates(maps: keras.Model | None, image: np.ndarray, frame: Frame) -> dict[str, np.ndarray]:
    """Return the weights of each gate on a slice, float32 (h, w) in [0, 1], by the name of the gate.

    Args:
        maps: the network that `attnunet.models.blocks.gate_maps` returns. If it is None, the result is empty.
        image: the slice in the form for the network, (S, S, C).
        frame: how the slice was brought to its square.
    """
    weights = maps(image[None]) if maps is not None else {}  # predict() would first trace the graph, which takes a second
    squares = {name: resize(np.asarray(values)[0, ..., 0], (frame.size, frame.size)) for name, values in weights.items()}
    return {name: frame.restore(square) for name, square in squares.items()}  # the maps of lower levels were smaller squares
