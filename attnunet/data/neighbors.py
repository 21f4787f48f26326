"""The slices before and after a slice as further channels of it ("2.5-D"), which show how a lesion goes on."""

from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np


def find_neighbors(volumes: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the slice before each slice, and the index of the slice after it, within the same volume.

    At the ends of a volume, a slice is its own neighbour. `volumes` names the volume of each slice. The slices of a volume
    stand together and in order.
    """
    indices = np.arange(len(volumes))
    same = np.array([a == b for a, b in pairwise(volumes)], bool)
    before, after = indices.copy(), indices.copy()
    before[1:][same] -= 1
    after[:-1][same] += 1
    return before, after


def join_neighbors(images: np.ndarray, before: np.ndarray, after: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Return images (n, S, S, C + 2k): the channels of the images, then k channels of the slices before, then of those after.

    All images are (n, S, S, C). `places` holds the k numbers of the channels that are taken from neighbours.
    """
    return np.concatenate([images, before[..., places], after[..., places]], axis=-1)
