"""Masks for the tests of scores: random volumes, and the special ones."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

SHAPE = (4, 9, 11)


def mask(*boxes: tuple[slice, slice, slice], shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """uint8 (D, h, w), 1 inside the boxes."""
    found = np.zeros(shape, np.uint8)
    for box in boxes:
        found[box] = 1
    return found


EMPTY, FULL = mask(), mask(np.s_[:, :, :])
PIXEL = mask(np.s_[1:2, 4:5, 5:6])
CORNER = mask(np.s_[0:1, 0:1, 0:1])  # touches the border on three sides
EDGE = mask(np.s_[:, 0:3, 2:8])
SEVERAL = mask(np.s_[0:1, 0:3, 0:3], np.s_[2:4, 5:8, 0:4], np.s_[1:2, 0:2, 8:11])
SPECIAL = {"empty": EMPTY, "full": FULL, "pixel": PIXEL, "corner": CORNER, "edge": EDGE, "several": SEVERAL}


def random_pairs(number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(reference, prediction) of all kinds: ragged and smooth, alike and unlike, some with an empty side or slice."""
    for seed in range(number):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers((1, 3, 3), (7, 16, 16)))
        smooth = rng.uniform(0, 2)
        truth, noise = (ndimage.gaussian_filter(rng.standard_normal(shape), (0.5, smooth, smooth)) for _ in range(2))
        threshold = rng.uniform(0, 2) * truth.std()
        prediction = truth + rng.uniform(0, 2) * noise > threshold
        truth = truth > threshold
        truth[rng.random(shape[0]) < 0.2] = False
        prediction[rng.random(shape[0]) < 0.2] = False
        yield truth.astype(np.uint8), prediction.astype(np.uint8)
